"""One way to connect to Kafka, for all services: plain, TLS, and a login by SASL; the reason is told where it fails."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

from services.common.settings import ConfigError

Security = Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]
Mechanism = Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"]
DEFAULT_PORT = 9092


@dataclass(frozen=True)
class KafkaLink:
    """Where Kafka is and who asks. ``password`` is never shown; ``prefix`` of the variables that set this up, for messages."""

    bootstrap: str
    security: Security = "plaintext"
    mechanism: Mechanism = "SCRAM-SHA-512"
    username: str = ""
    password: SecretStr | None = None
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    embedded: bool = False
    prefix: str = ""

    @property
    def tls(self) -> bool:
        return self.security in ("ssl", "sasl_ssl")

    @property
    def login(self) -> bool:
        return self.security in ("sasl_plaintext", "sasl_ssl")

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each broker in ``bootstrap``. Raises ``ConfigError`` for one that cannot be read."""
        return [_address(part.strip(), self.variable("bootstrap")) for part in self.bootstrap.split(",") if part.strip()]

    def variable(self, knob: str) -> str:
        """The environment variable of ``knob`` (such as ``ca_file``)."""
        return f"{self.prefix}KAFKA_{knob.upper()}"


class KafkaSettings(BaseSettings):
    """Knobs of the link to Kafka."""

    kafka_bootstrap: str = Field(default="127.0.0.1:9092", min_length=3, description="host:port of brokers, comma separated")
    kafka_security: Security = Field(
        default="plaintext",
        description="what the brokers' port speaks: `ssl` is TLS, `sasl` asks for a login",
    )
    kafka_mechanism: Mechanism = Field(default="SCRAM-SHA-512", description="how the login is proved; `PLAIN` needs `sasl_ssl`")
    kafka_username: str = Field(default="", description="user of the login")
    kafka_password: SecretStr | None = Field(default=None, description="password of the login")
    kafka_ca_file: str = Field(
        default="", description="PEM file of the authority that signed the brokers' certificates; empty: the system's list"
    )
    kafka_cert_file: str = Field(default="", description="PEM file of this client's certificate, where brokers ask for one")
    kafka_key_file: str = Field(default="", description="PEM file of that certificate's key; empty: it is in the same file")
    embedded: bool = Field(
        default=False, description="the broker is the one embedded in `sluice up`: short fetch waits and its own assignor"
    )

    @model_validator(mode="after")
    def _link_agrees(self) -> Self:
        link = self.kafka_link
        if problem := _contradiction(link):
            raise ValueError(problem)
        try:
            if not link.addresses:
                raise ValueError("KAFKA_BOOTSTRAP is empty: say host:port of a broker")
            client_options(link)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def kafka_link(self) -> KafkaLink:
        return KafkaLink(
            bootstrap=self.kafka_bootstrap,
            security=self.kafka_security,
            mechanism=self.kafka_mechanism,
            username=self.kafka_username,
            password=self.kafka_password,
            ca_file=self.kafka_ca_file,
            cert_file=self.kafka_cert_file,
            key_file=self.kafka_key_file,
            embedded=self.embedded,
            prefix=str(self.model_config.get("env_prefix", "")),
        )


def client_options(link: KafkaLink) -> dict[str, Any]:
    """What every aiokafka client takes to connect. Raises ``ConfigError`` for a certificate file that cannot be used."""
    options: dict[str, Any] = {"bootstrap_servers": [_bracketed(host) + f":{port}" for host, port in link.addresses]}
    return options | security_options(link)


def security_options(link: KafkaLink) -> dict[str, Any]:
    """The part of ``client_options`` that a single connection takes too."""
    options: dict[str, Any] = {"security_protocol": link.security.upper()}
    if link.tls:
        options["ssl_context"] = tls_context(link)
    if link.login:
        options["sasl_mechanism"] = link.mechanism
        options["sasl_plain_username"] = link.username
        options["sasl_plain_password"] = link.password.get_secret_value() if link.password else ""
    return options


def tls_context(link: KafkaLink) -> ssl.SSLContext:
    """Raises ``ConfigError`` that names the file which cannot be used."""
    try:
        context = ssl.create_default_context(cafile=link.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{link.variable('ca_file')}: {link.ca_file} is no authority's PEM file: {_why(error)}") from error
    if link.cert_file:
        try:
            context.load_cert_chain(link.cert_file, link.key_file or None)
        except (OSError, ssl.SSLError) as error:
            files = f"{link.cert_file} {link.key_file}".strip()
            raise ConfigError(f"{link.variable('cert_file')}: no certificate and key in {files}: {_why(error)}") from error
    return context


def _contradiction(link: KafkaLink) -> str:
    if link.login and not (link.username and link.password and link.password.get_secret_value()):
        return f"KAFKA_SECURITY {link.security} needs KAFKA_USERNAME and KAFKA_PASSWORD"
    if not link.login and (link.username or link.password):
        return f"KAFKA_USERNAME and KAFKA_PASSWORD need a login: KAFKA_SECURITY sasl_ssl instead of {link.security}"
    if link.security == "sasl_plaintext" and link.mechanism == "PLAIN":
        return "KAFKA_MECHANISM PLAIN sends the password as it is: use KAFKA_SECURITY sasl_ssl, or a SCRAM mechanism"
    if not link.tls and (link.ca_file or link.cert_file or link.key_file):
        return "KAFKA_CA_FILE, KAFKA_CERT_FILE and KAFKA_KEY_FILE need TLS: KAFKA_SECURITY ssl or sasl_ssl"
    if link.key_file and not link.cert_file:
        return "KAFKA_KEY_FILE without KAFKA_CERT_FILE"
    if link.embedded and link.security != "plaintext":
        return f"EMBEDDED with KAFKA_SECURITY {link.security}: the embedded broker knows neither TLS nor logins"
    return ""


def _address(text: str, variable: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        host, port = text, str(DEFAULT_PORT)  # no port, or an IPv6 address without brackets
    if not host.strip("[]") or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"{variable}: {text!r} is not host:port")
    return host.strip("[]"), int(port)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__
