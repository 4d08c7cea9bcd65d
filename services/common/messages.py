"""What travels between the edge worker and the verifiers. No torch here.

On the wire a message is a msgpack array: schema version, kind, then the fields in order, so that the fixed envelope of a
``CandidateBatch`` stays under 64 bytes. Who sent it is not in it: that follows from its signature (``credentials``).

Schemas grow by fields at the end, each marked with the version it came with. A reader takes versions N-1 to N+1: what an older
message lacks has its default, what a newer one has more is left out; and it answers in the version of the question. ``decode``
checks form and size, as fast for junk as for a message, and raises ``MessageError`` with a reason fit for a dead letter.
Spans and ids are unpacked, and checked, by ``tokens`` and ``base``: whoever calls them knows how long they may be.
"""

from __future__ import annotations

import enum
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgpack
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.common import codec
from services.common.sampling import Sampling
from services.common.speculative import SpanToken

SCHEMA = 3  # 2: Open.generation; 3: Open.device_class, Verdict.energy_measured
OLDEST = 1
MAX_MESSAGE_BYTES = 512 * 1024
_MAX_FIELDS = 64
_MAX_TEXT_BYTES = 4096


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

    generation: int | None = Field(
        default=None,
        ge=0,
        lt=1 << 31,
        description="0, and one more each time the session is opened again: an older opening never replaces a newer one",
        json_schema_extra={"since": 2},
    )
    device_class: str = Field(
        default="",
        max_length=64,
        description="whose policy the verdicts shall carry",
        json_schema_extra={"since": 3},
    )

    def base(self) -> list[int]:
        """Raises ``codec.CodecError``. Ask ``codec.count_ids`` first where the sender is not trusted."""
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

    def tokens(self, most: int = codec.MAX_SPAN_TOKENS) -> list[SpanToken]:
        """Raises ``codec.CodecError``, also for more than ``most`` tokens."""
        return codec.unpack_span(self.span, most)


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
    energy_joules: float | None = Field(default=None, ge=0, description="spent on the session since its last verdict")
    reason: str = Field(default="", max_length=300)
    energy_measured: bool = Field(
        default=False, description="by a meter, all of it; else estimated", json_schema_extra={"since": 3}
    )


class Cancel(_Message):
    """The session has ended: its slot and context may go."""

    kind: Literal["cancel"] = "cancel"
    session: SessionId


Message = Open | CandidateBatch | Verdict | Cancel
_KINDS: dict[int, type[Message]] = {1: Open, 2: CandidateBatch, 3: Verdict, 4: Cancel}
_NUMBERS = {cls: number for number, cls in _KINDS.items()}


def encode(message: Message, schema: int = SCHEMA) -> bytes:
    """The wire form of ``message`` for a reader of version ``schema``."""
    values = [_plain(getattr(message, name)) for name in _fields(type(message), schema)]
    packed: bytes = msgpack.packb([schema, _NUMBERS[type(message)], *values])
    return packed


def decode(data: bytes) -> Message:
    """The message in ``data``, or ``MessageError``."""
    return read(data)[0]


def read(data: bytes) -> tuple[Message, int]:
    """The message in ``data`` and its schema version, which is the one to answer in; or ``MessageError``."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise MessageError(f"{len(data)} bytes; {MAX_MESSAGE_BYTES} are allowed")
    try:
        row = msgpack.unpackb(
            data,
            max_array_len=_MAX_FIELDS,
            max_map_len=_MAX_FIELDS,
            max_ext_len=0,
            max_str_len=_MAX_TEXT_BYTES,
            max_bin_len=MAX_MESSAGE_BYTES,
        )
    except (ValueError, msgpack.UnpackException, TypeError) as error:
        raise MessageError(f"not msgpack as it is used here: {type(error).__name__}") from error
    if not isinstance(row, list) or len(row) < 2 or type(row[0]) is not int or type(row[1]) is not int:
        raise MessageError("not an array that begins with schema and kind")
    schema, number, *values = row
    if not max(OLDEST, SCHEMA - 1) <= schema <= SCHEMA + 1:
        raise MessageError(f"schema {schema}; this side reads {max(OLDEST, SCHEMA - 1)} to {SCHEMA + 1}")
    cls = _KINDS.get(number)
    if cls is None:
        raise MessageError(f"kind {number} of message is unknown")
    return _build(cls, schema, values), schema


def _build(cls: type[Message], schema: int, values: list[Any]) -> Message:
    fields = dict(zip(_fields(cls, schema), values, strict=False))
    if isinstance(fields.get("sampling"), list):
        fields["sampling"] = dict(zip(Sampling.model_fields, fields["sampling"], strict=False))
    try:
        return cls(**fields)
    except ValidationError as error:
        where = ", ".join(sorted({".".join(map(str, e["loc"])) for e in error.errors(include_input=False)}))
        raise MessageError(f"{cls.__name__}: bad or missing {where}") from error


@lru_cache(maxsize=64)
def _fields(cls: type[Message], schema: int) -> tuple[str, ...]:
    """The fields that a message of this version has, in their order on the wire."""
    found = []
    for name, info in cls.model_fields.items():
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        since = extra.get("since", OLDEST)
        if name != "kind" and isinstance(since, int) and since <= schema:
            found.append(name)
    return tuple(found)


def _plain(value: Any) -> Any:
    return [getattr(value, name) for name in Sampling.model_fields] if isinstance(value, Sampling) else value
