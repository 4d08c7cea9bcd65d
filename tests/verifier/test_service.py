"""The verifier as a process, on a real broker and a real Valkey: each status, each promise about delivery."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from services.common import keys
from services.common.catalogue import Service
from services.common.codec import MAX_SPAN_TOKENS, base_digest
from services.common.lm.loading import LoadedModel
from services.common.messages import MAX_MESSAGE_BYTES, Status, Verdict, encode
from services.common.speculative import SpanToken, Sparse
from tests.metrics.exposition import complaints
from tests.verifier.device import Device
from tests.verifier.service import VerifierProcess, committed
from tests.verifier.target import PROMPTS, candidates, greedy, ids_of

pytestmark = pytest.mark.timeout(600)  # the first test waits for the model to be loaded


@pytest.fixture(scope="module")
def verifier(bootstrap: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VerifierProcess]:
    process = VerifierProcess(bootstrap, redis_url, tmp_path_factory.mktemp("verifier") / "log")
    try:
        process.wait_ready()
        yield process
        assert process.stop() == 0
        assert "Traceback" not in process.log.read_text()
    finally:
        process.kill()


@pytest.fixture
async def device(verifier: VerifierProcess, bootstrap: str, redis_url: str, loaded: LoadedModel) -> AsyncIterator[Device]:
    async with Device(bootstrap, redis_url, loaded.tokenizer_hash) as device:
        yield device


async def dead_letters(bootstrap: str, reason: str) -> list[ConsumerRecord]:
    """Waits for a dead letter with ``reason`` in its header."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=2)
    consumer.assign([TopicPartition(keys.DEAD_LETTER_TOPIC, p) for p in range(4)])
    await consumer.start()
    try:
        for _ in range(50):
            found = [r for records in (await consumer.getmany(timeout_ms=200)).values() for r in records]
            matching = [r for r in found if reason in dict(r.headers)["reason"].decode()]
            if matching:
                return matching
        raise AssertionError(f"no dead letter with {reason!r}")
    finally:
        await consumer.stop()


async def ask(device: Device, base: list[int], span: list[SpanToken], session: bytes | None = None) -> Verdict:
    opening = device.opening(base, session)
    await device.publish(opening)
    await device.publish(device.batch(opening.session, base, span))
    return await device.verdict()


def flat(ids: list[int]) -> Sparse:
    """A draft distribution that is even over ``ids``."""
    return Sparse.cut(np.array(ids), np.full(len(ids), 1.0 / len(ids)), len(ids))


async def test_sessions_side_by_side_get_the_targets_greedy_tokens(device: Device, loaded: LoadedModel) -> None:
    """Three rounds of four sessions, each round with a mistake somewhere."""
    bases = {secrets.token_bytes(16): ids_of(loaded, prompt) for prompt in PROMPTS}
    truths = {session: greedy(loaded, base, 12) for session, base in bases.items()}
    written: dict[bytes, list[int]] = {session: [] for session in bases}
    for session, base in bases.items():
        await device.publish(device.opening(base, session))
    for number in range(3):
        spans = {}
        for n, session in enumerate(bases):
            at = len(written[session])
            spans[session] = truths[session][at : at + 3]
            if n != number:
                spans[session][n % 3] = 17
            base = bases[session] + written[session]
            await device.publish(device.batch(session, base, candidates(spans[session]), round_=number))
        for verdict in await device.verdicts(len(bases)):
            assert (verdict.status, verdict.round) == (Status.OK, number)
            assert verdict.token is not None
            written[verdict.session] += [*spans[verdict.session][: verdict.kept], verdict.token]
            whole = bases[verdict.session] + written[verdict.session]
            assert (verdict.base_length, verdict.base_digest) == (len(whole), base_digest(whole))
    for session, ids in written.items():
        assert ids == truths[session][: len(ids)]


async def test_a_round_played_back_gets_the_stored_verdict(
    device: Device, loaded: LoadedModel, verifier: VerifierProcess, bootstrap: str
) -> None:
    """Also after the session has gone on; and the session's next round is not disturbed."""
    base = ids_of(loaded, PROMPTS[0])
    opening = device.opening(base, temperature=1.0)
    x = flat([3, 4, 5])
    batch = device.batch(opening.session, base, [SpanToken(3, x.of(3), x)])
    await device.publish(opening)
    await device.publish(batch)
    first = await device.verdict()
    await device.publish(batch)
    assert await device.verdict() == first
    # The whole session is played back, the round as its next attempt.
    passes = verifier.metric("sluice_verdicts_resent_total")
    await device.publish(opening)
    await device.publish(batch.model_copy(update={"attempt": 1}))
    assert await device.verdict() == first.model_copy(update={"attempt": 1})
    assert verifier.metric("sluice_verdicts_resent_total") == passes + 1
    assert first.token is not None
    after = base + ([3] if first.kept else []) + [first.token]
    await device.publish(device.batch(opening.session, after, [], round_=1))
    assert (await device.verdict()).status == Status.OK
    stored = await device.redis.get(keys.verdict(device.worker, opening.session, 0))
    assert isinstance(stored, bytes)
    assert stored.partition(b"\n")[2] == encode(first)
    await dead_letters(bootstrap, "replayed: an opening")
    await dead_letters(bootstrap, "replayed: a round")


async def test_an_evicted_session_is_rebuilt_from_redis(device: Device, loaded: LoadedModel, verifier: VerifierProcess) -> None:
    """More sessions than slots and remembered contexts: the first one comes back from Redis, with the right token."""
    base = ids_of(loaded, PROMPTS[1])
    truth = greedy(loaded, base, 4)
    first = device.opening(base)
    await device.publish(first)
    await device.publish(device.batch(first.session, base, candidates(truth[:1])))
    assert (await device.verdict()).token == truth[1]
    rebuilds = verifier.metric("sluice_cache_rebuilds_total")
    for n in range(20):  # 4 slots, 16 contexts
        other = device.opening([n + 1, n + 2])
        await device.publish(other)
        await device.publish(device.batch(other.session, [n + 1, n + 2], []))
    await device.verdicts(20)
    await device.publish(device.batch(first.session, base + truth[:2], candidates(truth[2:3]), round_=1))
    verdict = await device.verdict()
    assert (verdict.status, verdict.kept, verdict.token) == (Status.OK, 1, truth[3])
    assert verifier.metric("sluice_cache_rebuilds_total") == rebuilds + 1


async def test_a_lost_context_and_a_stale_base_are_told_and_mended(device: Device, loaded: LoadedModel) -> None:
    base = ids_of(loaded, PROMPTS[0])
    session = secrets.token_bytes(16)
    await device.publish(device.batch(session, base, []))
    lost = await device.verdict()
    assert (lost.status, lost.token) == (Status.CONTEXT_LOST, None)
    assert lost.reason
    await device.publish(device.opening(base, session))
    other = [*base, 5]
    await device.publish(device.batch(session, other, [], attempt=1))
    stale = await device.verdict()
    assert (stale.status, stale.attempt) == (Status.STALE_BASE, 1)
    await device.publish(device.opening(other, session, generation=1))
    await device.publish(device.batch(session, other, [], attempt=2))
    mended = await device.verdict()
    assert (mended.status, mended.attempt, mended.token) == (Status.OK, 2, greedy(loaded, other, 1)[0])


async def test_a_cancelled_session_is_closed(device: Device, loaded: LoadedModel) -> None:
    base = ids_of(loaded, PROMPTS[0])
    opening = device.opening(base)
    assert (await ask(device, base, [], opening.session)).status == Status.OK
    await device.publish(device.cancel(opening.session))
    await device.publish(device.batch(opening.session, base, [], round_=1))
    assert (await device.verdict()).status == Status.INVALID
    assert await device.redis.hkeys(keys.context(device.worker, opening.session)) == [
        b"state",
        b"generation",
        b"partition",
        b"offset",
    ]


async def test_an_expired_round_costs_no_pass(device: Device, loaded: LoadedModel, verifier: VerifierProcess) -> None:
    base = ids_of(loaded, PROMPTS[0])
    opening = device.opening(base)
    assert (await ask(device, base, [], opening.session)).status == Status.OK
    passes = verifier.metric("sluice_passes_total")
    await device.publish(device.batch(opening.session, base, [], round_=1, ttl_ms=1000), age_seconds=5.0)
    late = await device.verdict()
    assert (late.status, late.token) == (Status.EXPIRED, None)
    assert verifier.metric("sluice_passes_total") == passes


async def test_another_tokenizer_is_told_at_each_round(device: Device, loaded: LoadedModel) -> None:
    base = ids_of(loaded, PROMPTS[0])
    opening = device.opening(base).model_copy(update={"tokenizer_hash": "other"})
    await device.publish(opening)
    for number in range(2):
        await device.publish(device.batch(opening.session, base, [], round_=number))
        verdict = await device.verdict()
        assert verdict.status == Status.TOKENIZER_MISMATCH
        assert loaded.tokenizer_hash in verdict.reason


@pytest.mark.parametrize("case", ["id", "span id", "support id", "context", "span", "nothing"])
async def test_what_the_target_cannot_take_is_invalid(device: Device, loaded: LoadedModel, case: str) -> None:
    base, beyond = ids_of(loaded, PROMPTS[0]), loaded.vocabulary
    x = flat([3, beyond])
    spans = {
        "span id": [SpanToken(beyond, 0.5)],
        "support id": [SpanToken(3, x.of(3), x)],
        "span": [SpanToken(3, 0.5)] * (MAX_SPAN_TOKENS + 1),
    }
    base = {"id": [*base, beyond], "context": base * 80}.get(case, base)
    opening = device.opening(base)
    await device.publish(opening)
    batch = device.batch(opening.session, base, spans.get(case, []))
    await device.publish(batch.model_copy(update={"want_bonus": case != "nothing"}))
    verdict = await device.verdict()
    assert verdict.status == Status.INVALID
    assert verdict.reason


async def test_malformed_messages_are_set_aside_and_stall_nobody(device: Device, loaded: LoadedModel, bootstrap: str) -> None:
    base = ids_of(loaded, PROMPTS[0])
    opening = device.opening(base)
    bad_counts = encode(device.batch(opening.session, base, []).model_copy(update={"span": b"\x03\x00\x01\x01\x01\x01"}))
    hostile = [b"", b"\xc1", b"nonsense", encode(Verdict(session=b"v" * 16, round=0)), bad_counts]
    hostile.append(b"\x00" * (MAX_MESSAGE_BYTES + 1))
    for value in hostile:
        await device.publish_raw(value, key=opening.session)  # the very partition of the session
    assert (await device.verdict()).status == Status.INVALID, "the one whose session and round can be read"
    await device.publish_raw(encode(opening), key=opening.session, headers=[])
    assert (await ask(device, base, [], opening.session)).status == Status.OK
    await dead_letters(bootstrap, "not signed")
    await dead_letters(bootstrap, "not msgpack")
    await dead_letters(bootstrap, "a verdict among the candidates")
    await dead_letters(bootstrap, "counts sum to")
    oversized = (await dead_letters(bootstrap, f"{MAX_MESSAGE_BYTES + 1} bytes;"))[0]
    assert len(oversized.value) <= 16 * 1024
    assert dict(oversized.headers)["bytes"] == str(MAX_MESSAGE_BYTES + 1).encode()


async def test_everything_finished_is_committed(device: Device, loaded: LoadedModel, bootstrap: str) -> None:
    before = await committed(bootstrap)
    base = ids_of(loaded, PROMPTS[0])
    assert (await ask(device, base, [])).status == Status.OK
    for _ in range(50):
        if await committed(bootstrap) >= before + 2:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("two finished messages were not committed")


async def test_a_long_prompt_does_not_stall_a_short_one(device: Device, loaded: LoadedModel) -> None:
    """The round published last, on a tiny prompt, is answered before the ones that wait for long prompts."""
    long = ids_of(loaded, PROMPTS[1]) * 10
    sessions = [secrets.token_bytes(16) for _ in range(3)]
    for session in sessions:
        await device.publish(device.opening(long, session))
        await device.publish(device.batch(session, long, []))
    short = device.opening([1, 2])
    await device.publish(short)
    await device.publish(device.batch(short.session, [1, 2], []))
    order = [v.session for v in await device.verdicts(4)]
    assert order.index(short.session) == 0


async def test_the_loop_stays_responsive_while_the_engine_is_saturated(device: Device, verifier: VerifierProcess) -> None:
    for n in range(24):
        ids = [1 + (7 * n + i) % 1000 for i in range(100)]
        opening = device.opening(ids)
        await device.publish(opening)
        await device.publish(device.batch(opening.session, ids, []))
    assert all(v.status == Status.OK for v in await device.verdicts(24, 60))
    lag = verifier.get("/lag").json()
    assert lag["count"] > 200
    assert lag["p99"] < 0.02


def test_metrics_carry_what_was_done(verifier: VerifierProcess) -> None:
    for name in (
        "sluice_verdicts_total",
        "sluice_passes_total",
        "sluice_processed_tokens_total",
        "sluice_cache_hits_total",
        "sluice_cache_rebuilds_total",
        "sluice_expired_total",
        "sluice_dead_letters_total",
        "sluice_batch_sessions_count",
        "sluice_partitions",
    ):
        assert verifier.metric(name) > 0, name
    assert complaints(verifier.get("/metrics").text, Service.VERIFIER) == []
