"""A device's joules: answers' parts against the model by hand, nothing lost or told twice, and what becomes of a lost meter."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.energy.account import Account
from services.common.energy.meter import FakeMeter, Source
from services.common.energy.profiles import Device
from services.common.energy.supply import Supply
from services.common.messages import Mode
from services.edge_worker.answer import AnswerStats, Decision, OnOutage
from services.edge_worker.energy import MeteredDevice
from services.edge_worker.fakes import LoopbackClient
from services.edge_worker.http.knobs import Knobs
from services.edge_worker.http.summary import summary
from tests.edge_worker.conftest import Rig, target_law

M, E = Source.MEASURED, Source.ESTIMATED
DEVICE = Device(
    name="d",
    step_seconds=1,
    draft_watts=10,
    idle_watts=1,
    wait_watts=4,
    transmit_watts=0,
    receive_watts=0,
    transmit_joules_per_bit=0.25,
    receive_joules_per_bit=0.125,
)


class Bench:
    """A device whose clock, sockets and meter the test moves."""

    def __init__(self, meter: FakeMeter | None = None, *, counts_bytes: bool = True) -> None:
        self.now, self.sent, self.received = 0.0, 0, 0
        self.counts_bytes = counts_bytes
        self.told: Counter[tuple[str, Source]] = Counter()
        self.device = MeteredDevice(DEVICE, Supply(meter), self._traffic, self._count, lambda: self.now)

    def _traffic(self) -> tuple[int, int] | None:
        return (self.sent, self.received) if self.counts_bytes else None

    def _count(self, component: str, source: Source, microjoules: int) -> None:
        self.told[component, source] += microjoules

    @property
    def total(self) -> int:
        return sum(self.told.values())


async def test_an_answer_costs_what_the_model_says_by_hand() -> None:
    """2 s idle, 3 s drafting, 5 s waiting, of which 1 s beside another answer that drafts."""
    bench, one, two = Bench(), AnswerStats(), AnswerStats()
    bench.now = 2.0
    bench.device.enter(one)
    with bench.device.drafting(one):
        bench.now += 3.0
    one.payload_bytes, bench.sent, bench.received = 100, 160, 40
    bench.now += 3.0
    bench.device.enter(two)
    with bench.device.drafting(two):
        bench.now += 1.0
    bench.now += 1.0
    await bench.device.leave(one)
    assert one.energy.joules == {"draft": 30.0, "wait": 4 * 3.0 + 4 * 1.0 / 2, "radio": 8 * (160 * 0.25 + 40 * 0.125)}
    assert set(one.energy.sources.values()) == {E}
    await bench.device.leave(two)
    assert two.energy.joules == {"draft": 10.0, "wait": 2.0, "radio": 0.0}
    both = {
        name: one.energy.microjoules.get(name, 0) + two.energy.microjoules.get(name, 0) for name in ("draft", "wait", "radio")
    }
    assert bench.told == Counter({**{(name, E): value for name, value in both.items()}, ("idle", E): 2_000_000})


async def test_the_radio_is_shared_by_payload_and_what_nobody_caused_is_nobodys() -> None:
    bench, one, two = Bench(), AnswerStats(), AnswerStats()
    for stats, payload in ((one, 300), (two, 100)):
        bench.device.enter(stats)
        stats.payload_bytes = payload
    bench.sent = 800
    await bench.device.settle()
    bench.received = 80  # a verdict: both had asked
    await bench.device.settle()
    assert one.energy.microjoules["radio"] == (600 * 2 + 40) * 1_000_000
    assert two.energy.microjoules["radio"] == (200 * 2 + 40) * 1_000_000
    for stats in (one, two):
        await bench.device.leave(stats)
    told = bench.told["radio", E]
    bench.sent += 10
    await bench.device.settle()
    assert bench.told["radio", E] - told == 20_000_000
    assert one.energy.microjoules["radio"] + two.energy.microjoules["radio"] == told


async def test_where_sockets_are_not_counted_the_payload_is() -> None:
    bench, stats = Bench(counts_bytes=False), AnswerStats()
    bench.device.enter(stats)
    stats.payload_bytes = 50
    await bench.device.leave(stats)
    assert stats.energy.joules["radio"] == 50 * 8 * 0.25


MOVES = st.lists(st.tuples(st.sampled_from("eldss"), st.integers(0, 2), st.floats(0, 5), st.integers(0, 10**7)), max_size=24)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(MOVES)
def test_all_that_the_meter_counts_is_told_once(moves: list[tuple[str, int, float, int]]) -> None:
    """Whatever answers do: what was told adds up to the meter's count, and the answers' parts to what was told of them."""

    async def play() -> None:
        meter = FakeMeter()
        bench, answers, active, ended = Bench(meter), [AnswerStats() for _ in range(3)], set[int](), set[int]()
        for move, who, seconds, spent in moves:
            bench.now += seconds
            meter.value += spent
            if move == "e" and who not in active | ended:
                bench.device.enter(answers[who])
                active.add(who)
            elif move == "l" and who in active:
                await bench.device.leave(answers[who])
                active.remove(who)
                ended.add(who)
            elif move == "d" and who in active:
                with bench.device.drafting(answers[who]):
                    bench.now += seconds
                    meter.value += spent
            else:
                await bench.device.settle()
        await bench.device.settle()
        assert bench.told[("radio", E)] == 0
        assert bench.total == meter.value
        of_answers = sum(sum(stats.energy.microjoules.values()) for stats in answers)
        assert of_answers == meter.value - bench.told["idle", M]

    asyncio.run(play())


async def test_a_meter_that_fails_under_an_answer_leaves_an_estimate() -> None:
    meter = FakeMeter()
    bench, stats = Bench(meter), AnswerStats()
    bench.device.enter(stats)
    with bench.device.drafting(stats):
        bench.now, meter.value = 1.0, 7_000_000
        await bench.device.settle()
        assert stats.energy.sources["draft"] is M
        bench.now, meter.broken = 3.0, "gone"
    bench.now = 4.0
    await bench.device.leave(stats)
    assert stats.energy.joules == {"draft": 7.0 + 2 * 10.0, "wait": 4.0}
    assert stats.energy.sources == {"draft": E, "wait": E}
    assert bench.told == Counter({("draft", M): 7_000_000, ("draft", E): 20_000_000, ("wait", E): 4_000_000})


class Telling(LoopbackClient):
    """A verifier that tells joules; the second of an answer's verdicts only estimates them."""

    def _judge(self, batch: Any) -> Any:
        told = {"energy_joules": 0.5, "energy_measured": batch.round != 1}
        return super()._judge(batch).model_copy(update=told)


async def test_a_session_accounts_for_its_drafting_its_waiting_and_its_verdicts() -> None:
    bench, client = Bench(FakeMeter(5)), Telling(target_law)
    tokens, session = await Rig(client=client, energy=bench.device, audit_rate=0.0).write(3, gamma=0.0)
    stats = session.stats
    assert stats.rounds >= 2
    assert stats.energy.joules["verify"] == 0.5 * stats.rounds
    assert stats.energy.sources["verify"] is E
    assert ("verify", E) not in bench.told
    assert stats.energy.sources["draft"] is M
    knobs = Knobs(mode=Mode.OPPORTUNISTIC, k=2, gamma=0.0, deadline=1.0, on_outage=OnOutage.DEGRADE)
    account = summary(stats, Counter(t.decision for t in tokens), knobs, "none", "")
    assert account["energy_joules"] == stats.energy.joules
    assert account["energy_source"]["verify"] == "estimated"
    assert account["energy_joules_per_token"] == pytest.approx(sum(stats.energy.joules.values()) / len(tokens))
    assert Decision.SKIPPED not in {t.decision for t in tokens}


def test_where_nobody_counts_the_account_says_so() -> None:
    knobs = Knobs(mode=Mode.OPPORTUNISTIC, k=2, gamma=0.0, deadline=1.0, on_outage=OnOutage.DEGRADE)
    account = summary(AnswerStats(), Counter(), knobs, "none", "")
    assert account["energy_joules"] is account["energy_joules_per_token"] is account["energy_source"] is None


def test_an_account_is_as_good_as_its_worst_part() -> None:
    account = Account()
    for source, microjoules in ((M, 1), (E, 2), (M, 3)):
        account.add("draft", source, microjoules)
    assert account.joules == {"draft": 6e-6}
    assert account.sources == {"draft": E}
