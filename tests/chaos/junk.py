"""Hostile messages of every kind: what a stranger, a broken device or a malicious one with a credential may write to the topic.

Each kind is a generator of ``Junk``. All names and keys are of this run; nothing here is fit for another system.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgpack
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.common.codec import base_digest, pack_ids
from services.common.credentials import HEADER, Credential, Signer, new_master
from services.common.messages import (
    MAX_MESSAGE_BYTES,
    Cancel,
    CandidateBatch,
    Message,
    MessageError,
    Open,
    Verdict,
    decode,
    encode,
)
from services.common.synthetic import TOKENIZER_HASH, VOCABULARY
from tests.chaos.site import MASTERS, signer

REVOKED = "outlaws"
CAPACITY = 2048  # of the verifiers' contexts, in tokens
MAX_SPAN = 128
FULL = 1 << 16  # what the counts of a distribution sum to


@dataclass(frozen=True)
class Junk:
    """``reason``: a pattern that the dead letter's reason must have."""

    kind: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    reason: str


class Mallory:
    """A worker with a good credential and bad intentions. ``base`` is that of the sessions it opens."""

    def __init__(self, draw: random.Random, name: str = "mallory") -> None:
        self.draw = draw
        self.signer = signer(name)
        self.base = [draw.randrange(VOCABULARY) for _ in range(20)]
        self.session = self.new_session()

    def new_session(self) -> bytes:
        return self.draw.randbytes(16)

    def opening(self, **changes: Any) -> Open:
        fields: dict[str, Any] = {
            "session": self.session,
            "ids": pack_ids(self.base),
            "prompt_tokens": len(self.base),
            "seed": 1,
            "tokenizer_hash": TOKENIZER_HASH,
            "generation": 0,
        }
        return Open(**(fields | changes))

    def batch(self, span: bytes, **changes: Any) -> CandidateBatch:
        fields: dict[str, Any] = {
            "session": self.session,
            "round": self.draw.randrange(1 << 30),
            "base_length": len(self.base),
            "base_digest": base_digest(self.base),
            "span": span,
            "ttl_ms": 600_000,
        }
        return CandidateBatch(**(fields | changes))

    def signed(self, kind: str, message: Message | bytes, reason: str, key: bytes | None = None) -> Junk:
        """As an honest worker would send it."""
        value = message if isinstance(message, bytes) else encode(message)
        key = key if key is not None else self.session if isinstance(message, bytes) else message.session
        return Junk(kind, key, value, self.signer.headers(key, value), reason)


def malformed(m: Mallory) -> Iterator[Junk]:
    row = msgpack.unpackb(encode(m.batch(b"")))
    for value, reason in (
        (b"", "msgpack"),
        (b"\xc1", "msgpack"),
        (b"{}", "msgpack"),
        (msgpack.packb({"schema": 1}), "not an array"),
        (msgpack.packb([]), "not an array"),
        (msgpack.packb([row[0], 99]), "kind 99"),
        (msgpack.packb([row[0], True]), "not an array"),
        (msgpack.packb([row[0], 2]), "bad or missing"),
        (msgpack.packb([*row[:2], b"short", *row[3:]]), "bad or missing session"),
        (msgpack.packb([*row[:3], -1, *row[4:]]), "bad or missing round"),
        (msgpack.packb([*row[:3], 1 << 40, *row[4:]]), "bad or missing round"),
        (msgpack.packb([[[[[[[[row]]]]]]]]), "not an array"),
        (b"\xdc\xff\xff" * 1000, "msgpack"),  # arrays that promise more than is there
        (b"\xdd\x7f\xff\xff\xff", "msgpack"),
        (b"\x91" * 2000, "msgpack"),
        (encode(Verdict(session=m.session, round=0)), "a verdict among the candidates"),
    ):
        yield m.signed("malformed", value, reason)
    yield m.signed("malformed", m.batch(b""), "Kafka key", key=b"k" * 16)
    yield m.signed("malformed", m.batch(b""), "Kafka key", key=b"")


def truncated(m: Mallory) -> Iterator[Junk]:
    whole = m.signed("truncated", m.opening(), "")
    cut = m.draw.randrange(1, len(whole.value))
    yield Junk("truncated", whole.key, whole.value[:cut], whole.headers, "a wrong signature")
    yield m.signed("truncated", whole.value[:cut], "")
    yield Junk("truncated", whole.key, whole.value, [(HEADER, whole.headers[0][1][: m.draw.randrange(12)])], "cut off")


def oversized(m: Mallory) -> Iterator[Junk]:
    yield m.signed("oversized", m.draw.randbytes(MAX_MESSAGE_BYTES + 1), "bytes; ")
    yield m.signed("oversized", m.opening(session=m.new_session(), ids=pack_ids([1] * 100_000)), "100000 tokens")


def wrong_version(m: Mallory) -> Iterator[Junk]:
    row = msgpack.unpackb(encode(m.opening()))
    for schema in (0, -1, 99, 1 << 40):
        yield m.signed("wrong version", msgpack.packb([schema, *row[1:]]), f"schema {schema}")


def wrong_tokenizer(m: Mallory) -> Iterator[Junk]:
    for name in ("", "0123456789abcdef", "SYNTHETIC"):
        yield m.signed("wrong tokenizer", m.opening(session=m.new_session(), tokenizer_hash=name), "tokenizer")


def wrongly_signed(m: Mallory) -> Iterator[Junk]:
    good = m.signed("wrongly signed", m.opening(session=m.new_session()), "")
    key, value = good.key, good.value
    stranger = Signer(Credential.issue({1: new_master()}, 1, "chaos"), "chaos.mallory")
    unknown = Signer(Credential.issue({7: new_master()}, 7, "chaos"), "chaos.mallory")
    outlaw = Signer(Credential.issue(MASTERS, 1, REVOKED), f"{REVOKED}.one")
    header = bytearray(good.headers[0][1])
    header[-1] ^= 1  # another worker's name under the same signature
    for headers, reason in (
        ([], "not signed"),
        (stranger.headers(key, value), "a wrong signature"),
        (unknown.headers(key, value), "master key 7"),
        (outlaw.headers(key, value), "revoked"),
        (good.headers * 2, "more than once"),
        ([(HEADER, b"")], "cut off"),
        ([(HEADER, m.draw.randbytes(40))], ""),
        ([(HEADER, bytes(header))], ""),
        (m.signer.headers(b"x" * 16, value), "a wrong signature"),
        (m.signer.headers(key, value + b"\0"), "a wrong signature"),
    ):
        yield Junk("wrongly signed", key, value, headers, reason)


def absurd(m: Mallory) -> Iterator[Junk]:
    """Well-formed rounds of an open session that no honest device writes."""

    def varints(*values: int) -> bytes:
        return pack_ids(values)

    half = FULL // 2
    for span, reason in (
        (varints(3, 0, 5, half, 0, half), "repeated id"),
        (varints(3, 0, 5, 1, 7, 1), "sum to 2"),
        (varints(3, 0, 5, FULL, 7, FULL), "sum to"),
        (varints(3, 0, 5, 0, 7, FULL), "empty count"),
        (varints(3, 2, 5, half, 7, half), "outside its own distribution"),
        (varints(3, 0, 5, half, VOCABULARY, half), "token id of"),
        (varints(1, VOCABULARY), "token id of"),
        (varints(0, 1 << 30) + b"\0\0", "token id of"),
        (varints(1, 1) * (MAX_SPAN + 1), f"more than {MAX_SPAN} tokens"),
        (varints(5000, 0), "entries"),
        (varints(3, 0, 5, half), "cut off"),
        (b"\xff" * 12, "cut off"),
        (b"\x00\x05\x01", "cut off"),
    ):
        yield m.signed("absurd", m.batch(span), reason)
    yield m.signed("absurd", m.batch(b"", want_bonus=False), "nothing to judge")


def absurd_openings(m: Mallory) -> Iterator[Junk]:
    for changes, reason in (
        ({"ids": b"", "prompt_tokens": 1}, ""),
        ({"ids": pack_ids([VOCABULARY]), "prompt_tokens": 1}, "token id of"),
        ({"ids": pack_ids([1] * CAPACITY)}, "tokens"),
        ({"ids": b"\xff" * 40}, ""),
        ({"ids": pack_ids([1, 2]), "prompt_tokens": 3}, "prompt of 3 tokens"),
    ):
        yield m.signed("absurd", m.opening(session=m.new_session(), **changes), reason)
    row = msgpack.unpackb(encode(m.opening()))
    for sampling in ([float("nan"), 1.0, 0], [1.0, float("inf"), 0], [-1.0, 1.0, 0], [1.0, 1.0, -5], ["hot"]):
        spoiled = [sampling if isinstance(part, list) else part for part in row]
        yield m.signed("absurd", msgpack.packb(spoiled), "bad or missing sampling")


Noise = tuple[bytes, bool]  # a value that no verifier can take, and whether it is to be signed


def random_messages(seed: int, count: int) -> list[Noise]:
    """From hypothesis."""
    scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20)
    anything = st.recursive(scalars | st.binary(max_size=40), lambda inner: st.lists(inner, max_size=5), max_leaves=12)
    m = Mallory(random.Random(seed))
    rows = [msgpack.unpackb(encode(message)) for message in (m.opening(), m.batch(b""), Cancel(session=m.session))]

    @st.composite
    def spoiled(draw: st.DrawFn) -> bytes:
        row = list(draw(st.sampled_from(rows)))
        row[draw(st.integers(0, len(row) - 1))] = draw(anything)
        packed: bytes = msgpack.packb(row)
        return packed

    found: list[Noise] = []
    values = st.binary(max_size=300) | anything.map(msgpack.packb) | spoiled() | spoiled()

    @settings(
        max_examples=4 * count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(values, st.booleans())
    def collect(value: bytes, sign: bool) -> None:
        if len(found) < count and (not sign or not _takes(value)):
            found.append((value, sign))

    collect()
    assert len(found) == count, f"hypothesis gave {len(found)} of {count} messages"
    return found


def _takes(value: bytes) -> bool:
    """Whether it is a message after all: then it is not hostile, but of a session that nobody knows."""
    try:
        decode(value)
    except MessageError:
        return False
    return True


KINDS: tuple[Callable[[Mallory], Iterator[Junk]], ...] = (
    malformed, truncated, wrong_version, wrong_tokenizer, wrongly_signed, absurd, absurd_openings,
)  # fmt: skip


def unsigned_or_signed(m: Mallory, value: bytes, sign: bool) -> Junk:
    key = secrets.token_bytes(16)
    return m.signed("random", value, "", key) if sign else Junk("random", key, value, [], "not signed")
