"""Token ids, spans and digests as bytes: the compact part of the wire format. Pure functions, no torch.

Numbers are LEB128 varints. A skipped token costs at most six bytes (tag, id, two bytes of count); a candidate costs one
byte or two for each entry's gap to the next smaller id and one to three for its count.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from services.common.speculative import TOTAL, SpanToken, Sparse

DIGEST_BYTES = 8
_SKIPPED, _GREEDY, _SPARSE = 0, 1, 2  # tags; a tag of _SPARSE + n means n + 1 entries
MAX_ENTRIES = 1024
MAX_SPAN_TOKENS = 128  # of one upload: no edge sends more, each verifier takes as many
_MORE_BYTES = 4  # of a varint, before its last one
_CUT_OFF = "a number is cut off or too long"

Array = npt.NDArray[np.int64]


class CodecError(ValueError):
    """Bytes that no honest sender writes; the reason is for the dead letter."""


def base_digest(ids: Sequence[int]) -> bytes:
    """Eight bytes over the committed ids of prompt and answer."""
    packed = array("I", ids)
    return hashlib.blake2b(packed.tobytes(), digest_size=DIGEST_BYTES).digest()


def _put(out: bytearray, value: int) -> None:
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


class _Reader:
    """Reads numbers one by one or many at once; ``at`` is the next byte."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    @property
    def done(self) -> bool:
        return self.at >= len(self.data)

    def number(self) -> int:
        value = shift = 0
        while True:
            if self.done or shift > 7 * _MORE_BYTES:
                raise CodecError(_CUT_OFF)
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return _in_range(value)
            shift += 7

    def numbers(self, count: int) -> Array:
        """The next ``count`` numbers (one at least)."""
        raw = np.frombuffer(self.data[self.at : self.at + (_MORE_BYTES + 1) * count], np.uint8)
        ends = np.flatnonzero(raw < 128)[:count]
        if len(ends) < count:
            raise CodecError(_CUT_OFF)
        more = np.empty_like(ends)  # bytes of each number before its last one
        more[0], more[1:] = ends[0], ends[1:] - ends[:-1] - 1
        longest = int(more.max())
        if longest > _MORE_BYTES:
            raise CodecError(_CUT_OFF)
        values = raw[ends].astype(np.int64)
        for back in range(1, longest + 1):
            longer = np.flatnonzero(more >= back)
            values[longer] = (values[longer] << 7) | (raw[ends[longer] - back] & 127)
        if longest == _MORE_BYTES:
            _in_range(int(values.max()))
        self.at += int(ends[-1]) + 1
        return values

    def two_bytes(self) -> int:
        if self.at + 2 > len(self.data):
            raise CodecError("a count is cut off")
        self.at += 2
        return int.from_bytes(self.data[self.at - 2 : self.at], "little")


def _in_range(value: int) -> int:
    if value >= 1 << 32:
        raise CodecError("a number of more than 32 bits")
    return value


def pack_ids(ids: Iterable[int]) -> bytes:
    out = bytearray()
    for token in ids:
        _put(out, token)
    return bytes(out)


def count_ids(data: bytes) -> int:
    """How many ids ``data`` holds; milliseconds for the largest message."""
    raw = np.frombuffer(data, np.uint8)
    return int(np.count_nonzero(raw < 128))


def unpack_ids(data: bytes) -> list[int]:
    if data and data[-1] > 127:
        raise CodecError(_CUT_OFF)
    count = count_ids(data)
    return _Reader(data).numbers(count).tolist() if count else []


def pack_span(span: Sequence[SpanToken]) -> bytes:
    out = bytearray()
    for token in span:
        if token.x is None:
            _put(out, _SKIPPED)
            _put(out, token.d)
            out += (round(token.x_d * TOTAL) - 1).to_bytes(2, "little")
        elif len(token.x.ids) == 1:
            _put(out, _GREEDY)
            _put(out, token.d)
        else:
            order = np.argsort(token.x.ids)
            ids, counts = token.x.ids[order].tolist(), token.x.counts[order].tolist()
            _put(out, _SPARSE + len(ids) - 1)
            _put(out, ids.index(token.d))
            before = 0
            for entry, count in zip(ids, counts, strict=True):
                _put(out, entry - before)
                _put(out, count)
                before = entry
    return bytes(out)


def unpack_span(data: bytes, most: int = MAX_SPAN_TOKENS) -> list[SpanToken]:
    """The span, checked: at most ``most`` tokens, counts of at least one that sum to 2^16, ids distinct, each ``d`` inside its
    support.
    """
    reader = _Reader(data)
    span: list[SpanToken] = []
    while not reader.done:
        if len(span) == most:
            raise CodecError(f"a span of more than {most} tokens")
        tag = reader.number()
        if tag == _SKIPPED:
            span.append(SpanToken(reader.number(), (reader.two_bytes() + 1) / TOTAL))
        elif tag == _GREEDY:
            d = reader.number()
            span.append(SpanToken(d, 1.0, Sparse.certain(d)))
        else:
            span.append(_sparse_token(reader, tag - _SPARSE + 1))
    return span


def _sparse_token(reader: _Reader, entries: int) -> SpanToken:
    if entries > MAX_ENTRIES:
        raise CodecError(f"a distribution of {entries} entries; {MAX_ENTRIES} are allowed")
    index = reader.number()
    pairs = reader.numbers(2 * entries)
    gaps, counts = pairs[::2], pairs[1::2].copy()
    if not gaps[1:].all() or not counts.all():
        raise CodecError("a distribution with a repeated id or an empty count")
    total = int(counts.sum())
    if total != TOTAL:
        raise CodecError(f"a distribution's counts sum to {total}, not {TOTAL}")
    if index >= entries:
        raise CodecError("a draft token outside its own distribution")
    ids = np.cumsum(gaps)
    return SpanToken(int(ids[index]), int(counts[index]) / TOTAL, Sparse(ids, counts))


def pack_audits(audits: Iterable[float]) -> bytes:
    """Each audit, in [0, 1], in one byte."""
    return bytes(round(a * 255) for a in audits)


def unpack_audits(data: bytes) -> list[float]:
    return [b / 255 for b in data]
