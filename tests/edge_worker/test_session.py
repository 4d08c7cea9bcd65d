"""The session loop over exact fakes: bookkeeping, reproducibility, outages, and the law of whole answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import stats

from services.common.messages import CandidateBatch, Mode, Status
from services.edge_worker.answer import Decision, OnOutage, OutageError
from services.edge_worker.breaker import Breaker, State
from services.edge_worker.fakes import LoopbackClient
from services.edge_worker.session import Session
from services.edge_worker.worker import Observer
from tests.edge_worker.conftest import Rig, target_law

ALPHA = 1e-6  # false-alarm rate of each statistical test; seeds are fixed


async def test_counts_agree_with_the_tokens(rig: Callable[..., Rig]) -> None:
    for seed in range(40):
        bench = rig()
        tokens, session = await bench.write(seed)
        assert len(tokens) == session.stats.total == 6
        assert session.stats.finish_reason == "length"
        by = Counter(t.decision for t in tokens)
        assert session.stats.accepted == by[Decision.ACCEPTED]
        assert session.stats.judged == by[Decision.ACCEPTED] + by[Decision.CORRECTED]
        assert session.stats.payload_bytes > 0
        assert bench.client.cancelled == []


async def test_k_zero_sends_nothing(rig: Callable[..., Rig]) -> None:
    bench = rig(audit_rate=0.0)
    tokens, session = await bench.write(3, slm_only=True, k=0)
    assert {t.decision for t in tokens} == {Decision.SKIPPED}
    assert bench.client.opens == []
    assert session.stats.payload_bytes == 0
    assert not session.stats.lossless


async def test_gamma_zero_asks_about_everything(rig: Callable[..., Rig]) -> None:
    tokens, session = await rig().write(5, gamma=0.0)
    assert Decision.SKIPPED not in {t.decision for t in tokens}
    assert session.stats.lossless


async def test_larger_gamma_never_asks_more(rig: Callable[..., Rig]) -> None:
    asked = []
    for gamma in (0.0, 0.5, 1.0, 1.4, 2.0, 10.0):
        bench = rig(audit_rate=1e-9)
        total = 0
        for seed in range(30):
            total += (await bench.write(seed, gamma=gamma))[1].stats.judged
        asked.append(total)
    assert asked == sorted(asked, reverse=True)
    assert asked[0] > 0
    assert asked[-1] == 0


def chi_square(texts: list[tuple[int, ...]], law: dict[tuple[int, ...], float]) -> float:
    seen = Counter(texts)
    observed = np.array([seen[t] for t in law], dtype=float)
    expected = np.array(list(law.values())) * len(texts)
    assert observed.sum() == len(texts)
    return float(stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue)


def law_of(length: int) -> dict[tuple[int, ...], float]:
    prompt = [0, 1, 2]
    out = {}
    for text in product(range(4), repeat=length):
        out[text] = float(np.prod([target_law([*prompt, *text[:i]])[text[i]] for i in range(length)]))
    return out


async def texts(bench: Rig, count: int, **changes: Any) -> list[tuple[int, ...]]:
    return [tuple(t.id for t in (await bench.write(seed, **changes))[0]) for seed in range(count)]


@pytest.mark.parametrize(
    "changes",
    [{"mode": Mode.LOSSLESS}, {"gamma": 0.0}, {"gamma": 0.0, "k": 1}, {"mode": Mode.LOSSLESS, "k": 3, "gamma": 2.0}],
    ids=["lossless", "gamma 0", "HLM", "lossless, rarely asking"],
)
async def test_whole_answers_follow_the_target_s_law(rig: Callable[..., Rig], changes: dict[str, Any]) -> None:
    got = await texts(rig(), 4000, max_tokens=3, **changes)
    assert chi_square(got, law_of(3)) > ALPHA


async def test_the_same_test_catches_a_gate_that_skips(rig: Callable[..., Rig]) -> None:
    got = await texts(rig(), 4000, max_tokens=3, gamma=1.0)
    assert chi_square(got, law_of(3)) < ALPHA


async def let_go_late(bench: Rig, turns: int) -> None:
    while True:
        for _ in range(turns):
            await asyncio.sleep(0)
        bench.client.let_go()


async def uploaded(bench: Rig) -> None:
    """Let the loop turn until the first upload is out; the test's timeout bounds it."""
    while True:
        if bench.client.batches:
            return
        await asyncio.sleep(0)


async def test_a_seed_reproduces_the_answer_however_late_the_verdicts_come(rig: Callable[..., Rig]) -> None:
    for seed in range(60):
        prompt, _ = await rig().write(seed, max_tokens=12)
        bench = rig()
        bench.client.hold = True
        session = bench.session(seed, max_tokens=12)
        pump = asyncio.create_task(let_go_late(bench, 20 + seed % 7))
        slow = [token async for token in session]
        pump.cancel()
        assert [(t.id, t.decision) for t in slow] == [(t.id, t.decision) for t in prompt]


async def test_a_lost_context_is_sent_again(rig: Callable[..., Rig]) -> None:
    bench = rig()
    bench.client.forget_context = True
    tokens, session = await bench.write(1, gamma=0.0)
    assert len(tokens) == 6
    assert session.stats.unverified == 0
    assert len(bench.client.opens) == 2
    assert max(b.attempt for b in bench.client.batches) == 1


async def test_no_verdict_means_unverified_tokens_and_an_open_breaker(rig: Callable[..., Rig]) -> None:
    bench = rig()
    bench.client.hold = True
    tokens, session = await bench.write(2, gamma=0.0, deadline_seconds=0.05)
    assert len(tokens) == 6
    assert {t.decision for t in tokens} == {Decision.UNVERIFIED}
    assert session.stats.degraded_reason == "deadline"
    assert not session.stats.lossless
    assert bench.worker.breaker.state is State.OPEN
    assert session.stats.lost_rounds == 2


async def test_a_dead_link_fails_at_once_and_names_its_cause(rig: Callable[..., Rig]) -> None:
    bench = rig()
    bench.client.down = "kafka"
    tokens, session = await bench.write(2, gamma=0.0, deadline_seconds=600.0)
    assert {t.decision for t in tokens} == {Decision.UNVERIFIED}
    assert session.stats.causes == {"kafka": 2}


async def test_after_an_outage_the_base_is_sent_again_and_verdicts_count_once_more(rig: Callable[..., Rig]) -> None:
    bench = rig(breaker=Breaker(failures=100))
    bench.client.down = "kafka"
    session = bench.session(4, gamma=0.0, k=1, max_tokens=6)
    tokens = []
    async for token in session:
        tokens.append(token)
        bench.client.down = ""
    assert tokens[0].decision is Decision.UNVERIFIED
    assert tokens[-1].decision is not Decision.UNVERIFIED
    assert bench.client.opens[0].base()[-1] == tokens[0].id


async def test_lossless_waits_and_then_fails(rig: Callable[..., Rig]) -> None:
    bench = rig(wait_seconds=0.15)
    bench.client.hold = True
    with pytest.raises(OutageError, match="must be verified"):
        await bench.write(2, mode=Mode.LOSSLESS, on_outage=OnOutage.WAIT, deadline_seconds=0.05)
    assert len(bench.client.batches) >= 2


async def test_lossless_shows_nothing_unverified(rig: Callable[..., Rig]) -> None:
    bench = rig()
    bench.client.hold = True
    session = bench.session(2, mode=Mode.LOSSLESS, on_outage=OnOutage.WAIT)
    first = asyncio.ensure_future(anext(aiter(session)))
    await uploaded(bench)
    assert not first.done()
    bench.client.let_go()
    bench.client.hold = False
    assert (await first).decision in (Decision.ACCEPTED, Decision.CORRECTED)
    await session.aclose()


async def test_closing_gives_the_slot_back_and_cancels(rig: Callable[..., Rig]) -> None:
    bench = rig()
    bench.client.hold = True
    session: Session = bench.session(0, gamma=0.0)
    waiting = asyncio.ensure_future(anext(aiter(session)))
    await uploaded(bench)
    free = len(bench.drafter._free)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await session.aclose()
    assert len(bench.drafter._free) == free + 1
    assert bench.client.cancelled == [bench.client.batches[0].session]


@pytest.mark.parametrize("status", [Status.OVERLOADED, Status.EXPIRED])
async def test_a_pool_without_time_has_lost_the_round(rig: Callable[..., Rig], status: Status) -> None:
    bench = rig()
    bench.client.refuse = [status]
    tokens, session = await bench.write(2, gamma=0.0)
    assert session.stats.causes == {status.value: 1}
    assert tokens[0].decision is Decision.UNVERIFIED
    assert tokens[-1].decision is not Decision.UNVERIFIED
    assert [o.generation for o in bench.client.opens] == [0, 1], "the next round sends all ids again"
    bench = rig()
    bench.client.refuse = [status]
    tokens, session = await bench.write(2, mode=Mode.LOSSLESS, on_outage=OnOutage.WAIT, deadline_seconds=0.05, max_tokens=3)
    assert session.stats.lossless, "it waits, and asks again"
    assert session.stats.unverified == 0


async def test_a_verdict_after_its_round_was_given_up_is_dropped(rig: Callable[..., Rig]) -> None:
    bench = rig(breaker=Breaker(failures=100))
    bench.client.hold = True
    session = bench.session(2, gamma=0.0, k=1, deadline_seconds=0.05)
    tokens = []
    async for token in session:
        tokens.append(token)
        bench.client.let_go()
        bench.client.hold = False
    assert tokens[0].decision is Decision.UNVERIFIED
    assert session.stats.late_verdicts == 1
    assert session.stats.lost_rounds == 1
    assert tokens[-1].decision is not Decision.UNVERIFIED
    assert bench.client.opens[1].base()[3:] == [t.id for t in tokens if t.decision is Decision.UNVERIFIED]


async def test_an_answer_that_is_stopped_ends_with_a_reason_and_what_is_final(rig: Callable[..., Rig]) -> None:
    bench = rig()
    session = bench.session(2, gamma=0.0, k=1, max_tokens=50, deadline_seconds=600.0)
    tokens = []
    async for token in session:
        tokens.append(token)
        if len(tokens) == 3:
            bench.client.hold = True  # the next round waits
            asyncio.get_running_loop().call_later(0.05, session.stop, "the worker was shut down")
    assert len(tokens) >= 3
    assert Decision.UNVERIFIED not in {t.decision for t in tokens}
    assert session.stats.finish_reason == "length"
    assert session.stats.degraded_reason == "the worker was shut down"
    assert bench.client.cancelled == [bench.client.batches[0].session]
    assert len(bench.drafter._free) == 64
    assert bench.worker.breaker.state is State.CLOSED


async def test_late_verdicts_are_counted_where_metrics_see_them(rig: Callable[..., Rig]) -> None:
    late = []

    class Watcher(Observer):
        def late(self) -> None:
            late.append(1)

    bench = rig(breaker=Breaker(failures=100), observer=Watcher())
    bench.client.hold = True
    session = bench.session(4, gamma=0.0, k=1, max_tokens=4, deadline_seconds=0.05)
    tokens = []
    async for token in session:
        tokens.append(token)
        if len(tokens) == 1:
            bench.client.hold = False
            bench.client.let_go()  # of the round that was given up
    assert tokens[0].decision is Decision.UNVERIFIED
    assert sum(late) == session.stats.late_verdicts == 1


async def test_one_probe_at_a_time_and_nobody_is_stuck(rig: Callable[..., Rig]) -> None:
    """Many sessions and a pool that is back after an outage: the breaker lets one ask, then all."""
    now = [0.0]
    bench = rig(breaker=Breaker(failures=2, pause_seconds=10.0), clock=lambda: now[0])
    bench.client.down = "kafka"
    outage = await asyncio.gather(*(bench.write(seed, gamma=0.0) for seed in range(20)))
    assert all(len(tokens) == 6 for tokens, _ in outage)
    assert bench.worker.breaker.state is State.OPEN
    bench.client.down = ""
    bench.client.hold = True
    now[0] = 12.0
    sessions = [bench.session(seed, gamma=0.0) for seed in range(20)]
    answers = [asyncio.create_task(_all(session)) for session in sessions]
    ended = asyncio.as_completed(answers)
    for _ in range(19):
        await next(ended)
    assert len(bench.client.batches) == 1, "more than one probe"
    bench.client.let_go()
    bench.client.hold = False
    await next(ended)
    assert bench.worker.breaker.cause == "", "it has not closed"


async def _all(session: Session) -> int:
    return len([token async for token in session])


async def test_a_slow_link_does_not_queue_up_rounds_that_were_given_up(rig: Callable[..., Rig]) -> None:
    """Each message takes longer than the deadline: what is sent in the end is the last round, not a backlog."""

    class Slow(LoopbackClient):
        begun = 0
        sent = 0

        async def submit(self, message: CandidateBatch) -> int:
            Slow.begun += 1
            await asyncio.sleep(0.2)
            Slow.sent += 1
            return await super().submit(message)

    bench = rig(client=Slow(target_law), breaker=Breaker(failures=100))
    began = asyncio.get_running_loop().time()
    tokens, session = await bench.write(3, gamma=0.0, k=1, max_tokens=10, deadline_seconds=0.02)
    assert {t.decision for t in tokens} == {Decision.UNVERIFIED}
    assert session.stats.lost_rounds == Slow.begun == 10
    assert Slow.sent == 0
    assert asyncio.get_running_loop().time() - began < 2
