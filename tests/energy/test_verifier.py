"""A verifier's joules: each pass is shared exactly, the rest is idle, and all of the meter's count is told."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.energy.meter import FakeMeter, Source
from services.common.energy.profiles import Server
from services.common.energy.supply import Supply
from services.verifier.energy import PassEnergy, SessionEnergy, Spent

SERVER = Server(name="s", pass_seconds=0.1, token_seconds=0, watts=100, idle_watts=10)
M, E = Source.MEASURED, Source.ESTIMATED
BATCH = st.lists(st.integers(1, 200), min_size=1, max_size=16)
PASSES = st.lists(st.tuples(st.booleans(), BATCH, st.integers(0, 10**9)), max_size=12)


class Book:
    """What was counted, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.told: Counter[tuple[str, Source]] = Counter()

    def count(self, component: str, source: Source, microjoules: int) -> None:
        self.told[component, source] += microjoules


@settings(deadline=None, derandomize=True, max_examples=60)
@given(PASSES)
def test_what_verdicts_tell_is_what_their_passes_cost_to_the_last_microjoule(passes: list[tuple[bool, list[int], int]]) -> None:
    """Prefixes go with the next verdict of their session, or stay with nobody; nothing is told twice."""
    energy = SessionEnergy()
    spent = told = 0
    for prefill, fed, cost in passes:
        sessions = [bytes([n]) for n in range(len(fed))]
        spent += cost
        if prefill:
            energy.prefilled(sessions, fed, Spent(cost, M))
        else:
            told += sum(part.microjoules for part in energy.verified(sessions, fed, Spent(cost, M)))
    everybody = [bytes([n]) for n in range(16)]
    told += sum(part.microjoules for part in energy.verified(everybody, [1] * 16, Spent(0, M)))
    assert told == spent


def test_shares_follow_the_tokens_fed_and_estimates_stay_estimates() -> None:
    energy = SessionEnergy()
    energy.prefilled([b"a"], [7], Spent(50, E))
    assert energy.verified([b"a", b"b"], [1, 3], Spent(400, M)) == [Spent(150, E), Spent(300, M)]
    energy.prefilled([b"a"], [7], Spent(50, M))
    energy.forget(b"a")
    assert energy.verified([b"a"], [1], Spent(1, M)) == [Spent(1, M)]


def test_sessions_that_were_left_do_not_pile_up() -> None:
    energy = SessionEnergy(remembered=2)
    for n in range(5):
        energy.prefilled([bytes([n])], [1], Spent(10, M))
    assert [p.microjoules for p in energy.verified([bytes([n]) for n in range(5)], [1] * 5, Spent(0, M))] == [0, 0, 0, 10, 10]


def test_the_meters_count_is_told_to_the_last_microjoule() -> None:
    """Also where a pass fails, and where somebody asks in the middle of one."""
    meter, book = FakeMeter(1000), Book()
    energy = PassEnergy(Supply(meter), SERVER, book.count, lambda: book.now)

    def work() -> str:
        meter.value += 70
        energy.tick()
        meter.value += 30
        return "done"

    def failing() -> None:
        meter.value += 5
        raise RuntimeError("as the test wants it")

    meter.value += 11
    assert energy.around("verify", work) == ("done", Spent(100, M))
    meter.value += 22
    energy.tick()
    with pytest.raises(RuntimeError):
        energy.around("prefill", failing)
    assert energy.around("verify", lambda: None) == (None, Spent(0, M))
    assert book.told == {("verify", M): 100, ("idle", M): 33, ("prefill", M): 5}
    assert sum(book.told.values()) == meter.value - 1000


def test_without_a_meter_the_profile_counts() -> None:
    book = Book()
    energy = PassEnergy(Supply(), SERVER, book.count, lambda: book.now)

    def work() -> None:
        book.now += 0.25

    book.now = 2.0
    assert energy.around("verify", work)[1] == Spent(25_000_000, E)
    book.now += 1.0
    energy.tick()
    assert book.told == {("idle", E): 30_000_000, ("verify", E): 25_000_000}


def test_a_pass_during_which_the_meter_fails_is_an_estimate() -> None:
    book, meter = Book(), FakeMeter()
    energy = PassEnergy(Supply(meter), SERVER, book.count, lambda: book.now)

    def work() -> None:
        meter.value += 7
        energy.tick()
        meter.broken = "gone"
        book.now += 0.5

    assert energy.around("verify", work)[1] == Spent(7 + 50_000_000, E)
    assert book.told == {("idle", M): 0, ("verify", M): 7, ("verify", E): 50_000_000}
