"""Who gets into a pass: simulated with the pass times of the Qwen target on two cores (PLATFORM: 115 ms and 5.5 ms a token)."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verifier.fairness import Fairness, Item, Party, Weights, parse_weights

PASS_SECONDS, TOKEN_SECONDS = 0.115, 0.0055
SECONDS, TTL_SECONDS = 400.0, 3.0
BUDGET, ROWS, SIZE = 24, 16, 4

Pick = Callable[[list[Item[float]], float], list[Item[float]]]


def arrivals(rates: dict[Party, float], seed: int) -> list[tuple[float, Party]]:
    rng = random.Random(seed)
    found = []
    for party, rate in rates.items():
        at = rng.expovariate(rate)
        while at < SECONDS:
            found.append((at, party))
            at += rng.expovariate(rate)
    return sorted(found)


def serve(pick: Pick, rates: dict[Party, float], seed: int = 1) -> dict[Party, list[float]]:
    """Rounds of ``SIZE`` tokens through one engine; of each party how long those took that were in time."""
    events, now, at = arrivals(rates, seed), 0.0, 0
    waiting: list[Item[float]] = []
    took: dict[Party, list[float]] = {party: [] for party in rates}
    while at < len(events) or waiting:
        if not waiting:
            now = max(now, events[at][0])
        while at < len(events) and events[at][0] <= now:
            waiting.append(Item(events[at][0], events[at][0] + TTL_SECONDS, SIZE, events[at][1]))
            at += 1
        waiting = [item for item in waiting if item.due > now]
        chosen = pick(waiting, now) if waiting else []
        now += PASS_SECONDS + TOKEN_SECONDS * sum(item.size for item in chosen)
        for item in chosen:
            waiting.remove(item)
            took[item.party].append(now - item.what)
    return took


def fair(weights: Weights | None = None) -> Pick:
    fairness = Fairness(weights)
    return lambda items, now: fairness.pick(items, BUDGET, ROWS, now)


def first_due(items: list[Item[float]], _now: float) -> list[Item[float]]:
    return sorted(items, key=lambda item: item.due)[: BUDGET // SIZE]


def p99(took: dict[Party, list[float]], parties: list[Party]) -> float:
    every = sorted(seconds for party in parties for seconds in took[party])
    return every[int(0.99 * len(every))]


TENANTS: list[Party] = [(f"t{n}", "") for n in range(4)]
FLOOD: Party = ("flood", "")


@pytest.mark.parametrize("seed", [1, 2])
def test_a_flood_of_one_tenant_hardly_moves_the_others(seed: int) -> None:
    """At 80 % load, one of five tenants sends fifty times as much. By deadlines alone most rounds of the others are lost."""
    calm = dict.fromkeys([*TENANTS, FLOOD], 1.6)
    flooded = {**calm, FLOOD: 80.0}
    before, after = serve(fair(), calm, seed), serve(fair(), flooded, seed)
    assert p99(after, TENANTS) < 1.2 * p99(before, TENANTS)
    assert [len(after[t]) / len(before[t]) for t in TENANTS] == pytest.approx([1.0] * 4, abs=0.01)
    unfair = serve(first_due, flooded, seed)
    assert sum(len(unfair[t]) for t in TENANTS) < 0.5 * sum(len(before[t]) for t in TENANTS)


def test_under_overload_each_has_its_weight() -> None:
    weights = Weights({"a": 3.0}, {"batch": 0.25})
    took = serve(fair(weights), {("a", ""): 60.0, ("b", "chat"): 60.0, ("b", "batch"): 60.0})
    served = {party: len(seconds) for party, seconds in took.items()}
    whole = sum(served.values())
    shares = {party: count / whole for party, count in served.items()}
    assert shares == {
        ("a", ""): pytest.approx(0.75, rel=0.05),
        ("b", "chat"): pytest.approx(0.2, rel=0.05),
        ("b", "batch"): pytest.approx(0.05, rel=0.05),
    }


def test_alone_a_tenant_has_the_whole_budget() -> None:
    fairness = Fairness()
    fairness.pick([Item(0.0, 1.0, SIZE, ("other", ""))], BUDGET, ROWS, now=0.0)
    flood = [Item(0.0, 9.0, SIZE, FLOOD) for _ in range(20)]
    assert len(fairness.pick(flood, BUDGET, ROWS, now=1.0)) < BUDGET // SIZE
    assert len(fairness.pick(flood, BUDGET, ROWS, now=4.0)) == BUDGET // SIZE


@given(
    st.lists(st.tuples(st.integers(1, 50), st.floats(0, 9), st.sampled_from("abc"), st.sampled_from("xy")), min_size=1),
    st.integers(1, 60),
    st.integers(1, 5),
)
def test_every_pass_moves_something_and_keeps_its_limits(
    items: list[tuple[int, float, str, str]], budget: int, rows: int
) -> None:
    fairness = Fairness(Weights({"a": 5.0}, {"x": 0.01}))
    waiting = [Item(number, due, size, (t, c)) for number, (size, due, t, c) in enumerate(items)]
    for _ in range(len(items)):
        if not waiting:
            break
        chosen = fairness.pick(waiting, budget, rows, now=0.0)
        assert 0 < len(chosen) <= rows
        assert len(chosen) == 1 or sum(item.size for item in chosen) <= budget
        waiting = [item for item in waiting if item not in chosen]
    assert not waiting


def test_weights_are_read() -> None:
    assert parse_weights("acme/app=2, test=0.5") == {"acme/app": 2.0, "test": 0.5}
    assert parse_weights("") == {}


@pytest.mark.parametrize("text", ["a", "a=", "a=x", "a=0", "a=-1", "=2", "a=nan", "a=inf"])
def test_what_is_no_weight_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="NAME=WEIGHT"):
        parse_weights(text)
