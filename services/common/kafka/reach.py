"""A connection to one Kafka broker, logged in; or the step that failed: name, port, TLS, certificate, login."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import IllegalSaslStateError, KafkaError, SaslAuthenticationFailed, UnsupportedSaslMechanismError
from aiokafka.protocol.admin import SaslHandShakeRequest
from aiokafka.protocol.metadata import MetadataRequest

from services.common.kafka.link import KafkaLink, security_options

STEP_SECONDS = 5.0
CLOSE_SECONDS = 0.5
_FAILURES = (KafkaError, OSError, TimeoutError)
_CLOSED = "closed the connection"


class Trouble(Exception):
    """``str`` is one line: what is wrong, and what to do."""


async def connect_any(link: KafkaLink, seconds: float = STEP_SECONDS) -> AIOKafkaConnection:
    """To the first broker that answers. Raises ``Trouble`` with the cause of each where none does."""
    troubles: dict[str, None] = {}
    for host, port in link.addresses:
        try:
            return await connect(link, host, port, seconds)
        except Trouble as trouble:
            troubles[str(trouble)] = None
    raise Trouble("; ".join(troubles))


async def connect(link: KafkaLink, host: str, port: int, seconds: float = STEP_SECONDS) -> AIOKafkaConnection:
    """A connection whose requests may take ``seconds``; the caller closes it. Raises ``Trouble``."""
    await _tcp(host, port)
    try:
        connection = await _open(host, port, seconds, security_options(link))
    except _FAILURES as error:
        raise Trouble(await _cause(link, host, port, error)) from error
    try:
        await connection.send(MetadataRequest([]))
    except _FAILURES as error:
        await close(connection)
        raise Trouble(_refused(link, host, port, error)) from error
    return connection


async def close(connection: AIOKafkaConnection) -> None:
    """Returns when the socket is closed, or soon after if the other side does not take part."""
    if closed := connection.close():
        await asyncio.wait({closed}, timeout=CLOSE_SECONDS)


async def _open(host: str, port: int, seconds: float, options: dict[str, Any]) -> AIOKafkaConnection:
    """As aiokafka's own ``create_conn``, but one that fails leaves nothing open. Raises one of ``_FAILURES``."""
    connection = AIOKafkaConnection(host, port, request_timeout_ms=int(seconds * 1000), **options)
    try:
        await connection.connect()
    except (KafkaError, TimeoutError):
        await close(connection)
        raise
    return connection


async def _tcp(host: str, port: int) -> None:
    """Raises ``Trouble`` where the name means nothing or nobody listens."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise Trouble(f"the name {host!r} does not resolve: correct it, or the DNS") from error
    last: BaseException | None = None
    for _, _, _, _, address in found:
        try:
            async with asyncio.timeout(STEP_SECONDS):
                _, writer = await asyncio.open_connection(str(address[0]), port)
        except (OSError, TimeoutError) as error:
            last = error
        else:
            await _hang_up(writer)
            return
    where = f"{host}:{port}"
    if isinstance(last, ConnectionRefusedError):
        raise Trouble(f"connection refused by {where}: no broker listens there") from last
    if isinstance(last, TimeoutError):
        raise Trouble(f"no answer from {where} within {STEP_SECONDS:g} s: a firewall, or the wrong address") from last
    raise Trouble(f"no way to {where}: {last.strerror if isinstance(last, OSError) else last}") from last


async def _cause(link: KafkaLink, host: str, port: int, error: BaseException) -> str:
    where = f"{host}:{port}"
    security, chain = link.variable("security"), list(_chain(error))
    if certificate := next((e for e in chain if isinstance(e, ssl.SSLCertVerificationError)), None):
        return _certificate(link, where, certificate)
    if alert := _certificate_wanted(link, where, chain):
        return alert
    if any(isinstance(e, UnsupportedSaslMechanismError) for e in chain):
        offered = await _offered(link, host, port)
        return (
            f"{where} takes no login by {link.mechanism}" + (f", but by {offered}" if offered else "") + _set(link, "mechanism")
        )
    if any(isinstance(e, SaslAuthenticationFailed) for e in chain):
        user = link.variable("username")
        return f"{where} refuses user {link.username!r}: wrong user or password ({user}, {link.variable('password')})"
    if any(isinstance(e, IllegalSaslStateError) for e in chain):
        return f"{where} takes no login: set {security} to {'ssl' if link.tls else 'plaintext'}"
    if isinstance(error, TimeoutError):
        return f"{where} listens, but does not answer as a Kafka broker within {STEP_SECONDS:g} s"
    if link.tls and await _speaks_plain(host, port):
        return f"{where} speaks plain text, not TLS: set {security} to {'sasl_plaintext' if link.login else 'plaintext'}"
    if not link.tls and await _speaks_tls(host, port):
        return f"{where} speaks TLS: set {security} to {'sasl_ssl' if link.login else 'ssl'}"
    if link.tls and not isinstance(error, KafkaError):
        return f"the TLS handshake with {where} failed: {_text(error)}"
    return f"{where} {_CLOSED} at the greeting: is it a Kafka broker?"


def _refused(link: KafkaLink, host: str, port: int, error: BaseException) -> str:
    """Why a broker that took the greeting answers nothing else."""
    where = f"{host}:{port}"
    if alert := _certificate_wanted(link, where, list(_chain(error))):
        return alert
    if not link.login:
        wanted = "sasl_ssl" if link.tls else "sasl_plaintext"
        return f"{where} {_CLOSED}, as one that asks for a login: set {link.variable('security')} to {wanted}"
    return f"{where} {_CLOSED} after the login: {_text(error)}"


def _certificate(link: KafkaLink, where: str, error: ssl.SSLCertVerificationError) -> str:
    said = error.verify_message
    if "match" in said.lower():
        return f"the certificate of {where} is for another name ({said}): {link.variable('bootstrap')} must use a name in it"
    if "expired" in said or "not yet valid" in said:
        return f"the certificate of {where} is not valid now ({said}): renew it, or set this machine's clock"
    return f"the certificate of {where} is not trusted ({said})" + _set(link, "ca_file", "to the PEM file of its authority")


def _certificate_wanted(link: KafkaLink, where: str, chain: list[BaseException]) -> str:
    alerts = " ".join(str(e).upper().replace(" ", "_") for e in chain if isinstance(e, ssl.SSLError))
    if "CERTIFICATE_REQUIRED" in alerts or "ALERT_BAD_CERTIFICATE" in alerts:
        return f"{where} asks for a client certificate" + _set(link, "cert_file", f"and {link.variable('key_file')}")
    if "UNKNOWN_CA" in alerts or ("ALERT" in alerts and "CERTIFICATE" in alerts):
        return f"{where} refuses this client's certificate: it trusts another authority" + _set(link, "cert_file")
    return ""


async def _offered(link: KafkaLink, host: str, port: int) -> str:
    """The login mechanisms of a broker; empty if it does not say."""
    options = {**security_options(link), "security_protocol": "SSL" if link.tls else "PLAINTEXT"}
    with contextlib.suppress(*_FAILURES):
        connection = await _open(host, port, STEP_SECONDS, options)
        try:
            answer = await connection.send(SaslHandShakeRequest(link.mechanism))
        finally:
            await close(connection)
        return ", ".join(answer.enabled_mechanisms)
    return ""


async def _speaks_plain(host: str, port: int) -> bool:
    try:
        connection = await _open(host, port, STEP_SECONDS, {})
    except _FAILURES:
        return False
    await close(connection)
    return True


async def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is said over this connection
    try:
        async with asyncio.timeout(STEP_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLError as error:
        return "ALERT" in str(error).upper()  # it answers by TLS, and wants a certificate of ours, say
    except (OSError, TimeoutError):
        return False
    await _hang_up(writer)
    return True


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await writer.wait_closed()


def _set(link: KafkaLink, knob: str, how: str = "accordingly") -> str:
    return f": set {link.variable(knob)} {how}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _text(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
