"""Token ids, spans and digests as bytes: the compact part of the wire format. Pure functions, no torch.

Numbers are LEB128 varints. A skipped token costs at most six bytes (tag, id, two bytes of count); a candidate costs one
byte or two for each entry's gap to the next smaller id and one to three for its count.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence

import numpy as np

from services.common.speculative import TOTAL, SpanToken, Sparse

DIGEST_BYTES = 8
_SKIPPED, _GREEDY, _SPARSE = 0, 1, 2  # tags; a tag of _SPARSE + n means n + 1 entries
MAX_ENTRIES = 4096


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
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    @property
    def done(self) -> bool:
        return self.at >= len(self.data)

    def number(self) -> int:
        value = shift = 0
        while True:
            if self.done or shift > 28:
                raise CodecError("a number is cut off or too long")
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def two_bytes(self) -> int:
        if self.at + 2 > len(self.data):
            raise CodecError("a count is cut off")
        self.at += 2
        return int.from_bytes(self.data[self.at - 2 : self.at], "little")


def pack_ids(ids: Iterable[int]) -> bytes:
    out = bytearray()
    for token in ids:
        _put(out, token)
    return bytes(out)


def unpack_ids(data: bytes) -> list[int]:
    reader, ids = _Reader(data), []
    while not reader.done:
        ids.append(reader.number())
    return ids


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


def unpack_span(data: bytes) -> list[SpanToken]:
    """The span, checked: counts of at least one that sum to 2^16, ids distinct, each ``d`` inside its support."""
    reader, span = _Reader(data), []
    while not reader.done:
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
    ids, counts, last = [], [], -1
    for i in range(entries):
        gap, count = reader.number(), reader.number()
        if (i and not gap) or not count:
            raise CodecError("a distribution with a repeated id or an empty count")
        last = gap + max(last, 0)
        ids.append(last)
        counts.append(count)
    if sum(counts) != TOTAL:
        raise CodecError(f"a distribution's counts sum to {sum(counts)}, not {TOTAL}")
    if index >= entries:
        raise CodecError("a draft token outside its own distribution")
    x = Sparse(np.array(ids, dtype=np.int64), np.array(counts, dtype=np.int64))
    return SpanToken(ids[index], counts[index] / TOTAL, x)


def pack_audits(audits: Iterable[float]) -> bytes:
    """Each audit, in [0, 1], in one byte."""
    return bytes(round(a * 255) for a in audits)


def unpack_audits(data: bytes) -> list[float]:
    return [b / 255 for b in data]
