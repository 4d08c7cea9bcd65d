"""The wire format: versions, and junk that must be refused as fast as a message is read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common import codec
from services.common.codec import CodecError, pack_ids, unpack_ids, unpack_span
from services.common.messages import (
    MAX_MESSAGE_BYTES,
    SCHEMA,
    Cancel,
    CandidateBatch,
    Message,
    MessageError,
    Open,
    Status,
    Verdict,
    decode,
    encode,
    read,
)
from services.common.speculative import TOTAL

OPEN = Open(session=bytes(16), ids=pack_ids([1, 300]), prompt_tokens=1, seed=1, tokenizer_hash="t", generation=4)
BATCH = CandidateBatch(session=bytes(16), round=1, base_length=2, base_digest=bytes(8), span=b"", ttl_ms=5)
VERDICT = Verdict(session=bytes(16), round=3, status=Status.EXPIRED, reason="late")
MESSAGES = [OPEN, BATCH, VERDICT, Cancel(session=bytes(16))]
LAG_SECONDS = 0.02


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_survive_the_wire(message: Message) -> None:
    assert read(encode(message)) == (message, SCHEMA)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_newer_message_is_read_without_what_is_new(message: Message) -> None:
    row = msgpack.unpackb(encode(message, SCHEMA + 1))
    newer = msgpack.packb([*row, "new", [1, {"deep": b"x"}]])
    assert read(newer) == (message, SCHEMA + 1)


def test_an_older_message_gets_defaults_for_what_it_lacks() -> None:
    old = encode(OPEN, SCHEMA - 1)
    assert len(msgpack.unpackb(old)) == len(msgpack.unpackb(encode(OPEN))) - 1
    assert read(old) == (OPEN.model_copy(update={"device_class": ""}), SCHEMA - 1)
    assert read(msgpack.packb(msgpack.unpackb(encode(VERDICT))[:10]))[0] == VERDICT.model_copy(update={"reason": ""})


@pytest.mark.parametrize("schema", [-1, 0, SCHEMA + 2, 1 << 40])
def test_other_versions_are_refused(schema: int) -> None:
    row = msgpack.unpackb(encode(OPEN))
    with pytest.raises(MessageError, match=f"schema {schema}; this side reads {SCHEMA - 1} to {SCHEMA + 1}"):
        decode(msgpack.packb([schema, *row[1:]]))


def test_each_field_that_is_not_of_the_first_version_has_a_default() -> None:
    for cls in (Open, CandidateBatch, Verdict, Cancel):
        newer = [
            f for f in cls.model_fields.values() if isinstance(f.json_schema_extra, dict) and "since" in f.json_schema_extra
        ]
        assert not [f for f in newer if f.is_required()]
        assert list(cls.model_fields.values())[len(cls.model_fields) - len(newer) :] == newer, "fields are added at the end"


def varint(value: int) -> bytes:
    return pack_ids([value])


def hostile() -> dict[str, Callable[[], object]]:
    """512 KB each, of what costs most to look at."""
    size = MAX_MESSAGE_BYTES - 200
    noise, zeros = os.urandom(size), bytes(size)
    pairs = b"\x01\x05" * (size // 2)
    wide = (varint(1025) + b"\0" + (b"\1\1" * 1024)) * (size // 2052)
    opening, batch = OPEN.model_copy(update={"ids": zeros}), BATCH.model_copy(update={"span": pairs})
    return {
        "noise": lambda: decode(noise),
        "zeros": lambda: decode(zeros),
        "an array of a million": lambda: decode(b"\xdd\x00\x10\x00\x00" + zeros),
        "nested arrays": lambda: decode(b"\x91" * size),
        "nested maps": lambda: decode(b"\x81\xa1a" * (size // 3)),
        "a long text": lambda: decode(b"\xdb" + size.to_bytes(4, "big") + b"a" * size),
        "a prompt of half a million ids": lambda: codec.count_ids(_open(encode(opening)).ids),
        "a span of a quarter of a million tokens": lambda: unpack_span(_batch(encode(batch)).span, 128),
        "a span of wide distributions": lambda: unpack_span(wide, 128),
        "a span of noise": lambda: unpack_span(noise, 128),
    }


def _open(data: bytes) -> Open:
    message = decode(data)
    assert isinstance(message, Open)
    return message


def _batch(data: bytes) -> CandidateBatch:
    message = decode(data)
    assert isinstance(message, CandidateBatch)
    return message


@pytest.mark.parametrize("name", list(hostile()))
def test_junk_does_not_hold_the_event_loop(name: str) -> None:
    look = hostile()[name]
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        try:
            look()
        except (MessageError, CodecError) as error:
            assert len(str(error)) < 200  # noqa: PT017 - some of it is in order
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < LAG_SECONDS, f"{min(seconds) * 1000:.1f} ms"


@given(st.lists(st.integers(0, (1 << 32) - 1), max_size=200))
def test_ids_survive(ids: list[int]) -> None:
    packed = pack_ids(ids)
    assert unpack_ids(packed) == ids
    assert codec.count_ids(packed) == len(ids)
    if ids:
        with pytest.raises(CodecError):
            unpack_ids(packed + b"\x80")


@given(st.binary(max_size=100))
def test_any_bytes_are_ids_or_an_error(data: bytes) -> None:
    try:
        ids = unpack_ids(data)
    except CodecError:
        return
    assert len(ids) == codec.count_ids(data)
    assert all(0 <= i < 1 << 32 for i in ids)


@pytest.mark.parametrize(
    ("span", "told"),
    [
        ((3, 0, 5, TOTAL // 2, 0, TOTAL // 2), "repeated id"),
        ((3, 0, 5, 1, 7, 1), "sum to 2"),
        ((3, 0, 5, 0, 7, TOTAL), "empty count"),
        ((3, 2, 5, TOTAL // 2, 7, TOTAL // 2), "outside its own"),
        ((3, 0, 5), "cut off"),
        ((1027, 0), "1026 entries; 1024 are allowed"),
        ((1, 1 << 32), "more than 32 bits"),
        ((1, 1, 1, 1, 1, 1), "more than 2 tokens"),
    ],
)
def test_an_absurd_span_is_named(span: tuple[int, ...], told: str) -> None:
    with pytest.raises(CodecError, match=told):
        unpack_span(pack_ids(span), 2)
