"""The files that an Apache Kafka node reads: broker settings, logging, and the certificates of a throw-away authority."""

from __future__ import annotations

from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

SUPER_USER = "admin"
USERS = (SUPER_USER, "operator", "edge", "verifier", "policy", "stranger")
MECHANISM = "SCRAM-SHA-512"
_SCRAM_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required"
_PLAIN_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"

_LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %m (%c{1})%n
"""

_PLAIN_DEFAULTS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "INTERNAL",
    "auto.create.topics.enable": "false",
    "num.partitions": "4",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
}


def password_of(user: str) -> str:
    return f"{user}-secret"


def write(folder: Path, host: str, ports: tuple[int, int, int], secure: bool, settings: dict[str, str]) -> None:
    """``host``: for clients. ``ports``: for clients, for the controller, and for the broker's own use (no login, loopback)."""
    client, controller, internal = ports
    own = "127.0.0.1"
    protocol = "SASL_SSL" if secure else "PLAINTEXT"
    values = {
        **_PLAIN_DEFAULTS,
        "controller.quorum.voters": f"1@{own}:{controller}",
        "listeners": f"CLIENT://{host}:{client},CONTROLLER://{own}:{controller},INTERNAL://{own}:{internal}",
        "advertised.listeners": f"CLIENT://{host}:{client},INTERNAL://{own}:{internal}",
        "listener.security.protocol.map": f"CLIENT:{protocol},CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT",
        "log.dirs": str(folder / "data"),
        **(_secure(folder, host) if secure else {}),
        **settings,
    }
    (folder / "server.properties").write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    (folder / "log4j2.properties").write_text(_LOGGING)


def _secure(folder: Path, host: str) -> dict[str, str]:
    if not (folder / "ca.pem").exists():
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        authority.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(folder / "client.pem")
        certificate = authority.issue_cert("localhost", *sorted({"127.0.0.1", host}))
        key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
        pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # Java reads no other form
        (folder / "server.pem").write_bytes(pkcs8 + b"".join(part.bytes() for part in certificate.cert_chain_pems))
    passwords = " ".join(f'user_{user}="{password_of(user)}"' for user in USERS)
    return {
        "sasl.enabled.mechanisms": f"{MECHANISM},PLAIN",
        "listener.name.client.plain.sasl.jaas.config": f"{_PLAIN_LOGIN} {passwords};",
        f"listener.name.client.{MECHANISM.lower()}.sasl.jaas.config": f"{_SCRAM_LOGIN};",
        "listener.name.client.ssl.keystore.type": "PEM",
        "listener.name.client.ssl.keystore.location": str(folder / "server.pem"),
        "listener.name.client.ssl.truststore.type": "PEM",
        "listener.name.client.ssl.truststore.location": str(folder / "ca.pem"),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        "super.users": f"User:{SUPER_USER};User:ANONYMOUS",  # ANONYMOUS: the broker's own listener
    }
