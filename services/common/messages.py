"""What travels between the edge worker and the verifiers. No torch here.

On the wire a message is a msgpack array: schema version, kind, then the fields in order, so that the fixed envelope of a
``CandidateBatch`` stays under 64 bytes. Fields are only ever added at the end. ``decode`` checks everything that can be
checked without the model and raises ``MessageError`` with a reason fit for a dead letter.
"""

from __future__ import annotations

import enum
from typing import Annotated, Any, Literal

import msgpack
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.common import codec
from services.common.sampling import Sampling
from services.common.speculative import SpanToken

SCHEMA = 1
MAX_MESSAGE_BYTES = 512 * 1024


class MessageError(ValueError):
    """A message that cannot be taken; ``str(error)`` is one line without any token id."""


class Mode(enum.StrEnum):
    OPPORTUNISTIC = "opportunistic"
    LOSSLESS = "lossless"


class Status(enum.StrEnum):
    OK = "ok"
    EXPIRED = "expired"
    STALE_BASE = "stale_base"
    CONTEXT_LOST = "context_lost"
    TOKENIZER_MISMATCH = "tokenizer_mismatch"
    OVERLOADED = "overloaded"
    INVALID = "invalid"


SessionId = Annotated[bytes, Field(min_length=16, max_length=16)]
Digest = Annotated[bytes, Field(min_length=codec.DIGEST_BYTES, max_length=codec.DIGEST_BYTES)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True)


class Open(_Message):
    """What is constant in a session, and its base: the prompt, or after a loss all ids committed so far."""

    kind: Literal["open"] = "open"
    session: SessionId
    tenant: str = Field(default="", max_length=64)
    ids: bytes = Field(description="codec.pack_ids of prompt and committed answer")
    prompt_tokens: int = Field(ge=1)
    sampling: Sampling = Sampling()
    seed: int = Field(ge=0, lt=1 << 64)
    mode: Mode = Mode.OPPORTUNISTIC
    tokenizer_hash: str = Field(max_length=32)
    target: str = Field(default="", max_length=200)
    traceparent: str = Field(default="", max_length=64)

    def base(self) -> list[int]:
        return codec.unpack_ids(self.ids)


class CandidateBatch(_Message):
    """One upload: the span since ``base_length``. ``base_length`` counts prompt and answer tokens."""

    kind: Literal["candidates"] = "candidates"
    session: SessionId
    round: int = Field(ge=0, lt=1 << 31)
    attempt: int = Field(default=0, ge=0, lt=256)
    base_length: int = Field(ge=1, lt=1 << 31)
    base_digest: Digest
    span: bytes = Field(description="codec.pack_span")
    want_bonus: bool = True
    policy_version: int = Field(default=0, ge=0)
    ttl_ms: int = Field(ge=1, le=600_000)

    def tokens(self) -> list[SpanToken]:
        return codec.unpack_span(self.span)


class Verdict(_Message):
    """The answer to one ``CandidateBatch``. ``base_length`` and ``base_digest`` are those after it, if ``ok``."""

    kind: Literal["verdict"] = "verdict"
    session: SessionId
    round: int = Field(ge=0)
    attempt: int = Field(default=0, ge=0)
    status: Status = Status.OK
    kept: int = Field(default=0, ge=0)
    token: int | None = None
    corrected: bool = False
    base_length: int = Field(default=0, ge=0)
    base_digest: bytes = Field(default=b"", max_length=codec.DIGEST_BYTES)
    audits: bytes = Field(default=b"", description="codec.pack_audits of the skipped tokens among those kept")
    policy_k: int | None = None
    policy_gamma: float | None = None
    policy_version: int = 0
    queue_seconds: float = 0.0
    verify_seconds: float = 0.0
    energy_joules: float | None = None
    reason: str = Field(default="", max_length=300)


class Cancel(_Message):
    """The session has ended: its slot and context may go."""

    kind: Literal["cancel"] = "cancel"
    session: SessionId


Message = Open | CandidateBatch | Verdict | Cancel
_KINDS: dict[int, type[Message]] = {1: Open, 2: CandidateBatch, 3: Verdict, 4: Cancel}
_NUMBERS = {cls: number for number, cls in _KINDS.items()}


def encode(message: Message) -> bytes:
    """The wire form of ``message``."""
    fields = message.model_dump(exclude={"kind"})
    values = [list(v.values()) if isinstance(v, dict) else v for v in fields.values()]
    packed: bytes = msgpack.packb([SCHEMA, _NUMBERS[type(message)], *values])
    return packed


def decode(data: bytes) -> Message:
    """The message in ``data``, or ``MessageError``."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise MessageError(f"{len(data)} bytes; {MAX_MESSAGE_BYTES} are allowed")
    try:
        row = msgpack.unpackb(data)
    except (ValueError, msgpack.UnpackException, TypeError) as error:
        raise MessageError(f"not msgpack: {type(error).__name__}") from error
    if not isinstance(row, list) or len(row) < 2 or not isinstance(row[0], int):
        raise MessageError("not an array that begins with schema and kind")
    schema, number, *values = row
    if abs(schema - SCHEMA) > 1:
        raise MessageError(f"schema {schema}; this side reads {SCHEMA - 1} to {SCHEMA + 1}")
    cls = _KINDS.get(number) if isinstance(number, int) else None
    if cls is None:
        raise MessageError("unknown kind of message")
    message = _build(cls, values)
    try:
        if isinstance(message, Open):
            message.base()
        elif isinstance(message, CandidateBatch):
            message.tokens()
    except codec.CodecError as error:
        raise MessageError(str(error)) from error
    return message


def _build(cls: type[Message], values: list[Any]) -> Message:
    names = [n for n in cls.model_fields if n != "kind"]
    fields = dict(zip(names, values, strict=False))
    if isinstance(fields.get("sampling"), list):
        fields["sampling"] = dict(zip(Sampling.model_fields, fields["sampling"], strict=False))
    try:
        return cls(**fields)
    except ValidationError as error:
        where = ", ".join(sorted({".".join(map(str, e["loc"])) for e in error.errors()}))
        raise MessageError(f"{cls.__name__}: bad or missing {where}") from error
