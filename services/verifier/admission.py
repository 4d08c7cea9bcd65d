"""From a Kafka record to a message that may be worked on: size, signature, form, in this order. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from services.common.credentials import AuthError, Identity, Keyring
from services.common.messages import MAX_MESSAGE_BYTES, Cancel, CandidateBatch, MessageError, Open, Verdict, read

SessionMessage = Open | CandidateBatch | Cancel


@dataclass(frozen=True)
class Admitted:
    """A message, who sent it, and the schema version to answer in."""

    message: SessionMessage
    identity: Identity
    schema: int


def admit(keyring: Keyring, headers: Iterable[tuple[str, bytes]], key: bytes | None, value: bytes) -> Admitted:
    """Check a record before its body is decoded, then decode it. Raises ``MessageError`` with a reason for a dead letter."""
    if len(value) > MAX_MESSAGE_BYTES:
        raise MessageError(f"{len(value)} bytes; {MAX_MESSAGE_BYTES} are allowed")
    try:
        identity = keyring.verify(headers, key or b"", value)
    except AuthError as error:
        raise MessageError(str(error)) from error
    message, schema = read(value)
    if isinstance(message, Verdict):
        raise MessageError("a verdict among the candidates")
    if message.session != key:
        raise MessageError("the Kafka key is not the session of the message")
    return Admitted(message, identity, schema)
