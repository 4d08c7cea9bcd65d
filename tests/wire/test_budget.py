"""Token buckets, by the clock of the test."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.verifier.budget import Buckets, Budgets, Rate

FREE = Rate(0, 1)


def test_a_burst_and_then_the_rate() -> None:
    budgets = Budgets(Rate(10, 100), FREE)
    assert budgets.spend("w", "t", 60, now=0.0) is None
    refused = budgets.spend("w", "t", 60, now=0.0)
    assert refused is not None
    assert (refused.scope, refused.reason) == ("worker", "over the worker's budget of 10 tokens per second: again in 2.0 s")
    assert budgets.spend("w", "t", 60, now=1.9) is not None
    assert budgets.spend("w", "t", 60, now=2.0) is None
    assert budgets.spend("other", "t", 60, now=2.0) is None


def test_workers_of_one_tenant_share_its_budget_and_a_refusal_takes_nothing() -> None:
    budgets = Budgets(Rate(1, 50), Rate(1, 80))
    assert budgets.spend("a", "t", 50, now=0.0) is None
    refused = budgets.spend("b", "t", 50, now=0.0)
    assert refused is not None
    assert refused.scope == "tenant"
    assert budgets.spend("b", "t", 30, now=0.0) is None, "b has still its own 50"
    assert budgets.spend("b", "other", 20, now=0.0) is None


def test_a_debt_is_worked_off() -> None:
    budgets = Budgets(Rate(10, 100), FREE)
    budgets.charge("w", "t", 150, now=0.0)
    assert budgets.spend("w", "t", 1, now=5.0) is not None
    assert budgets.spend("w", "t", 1, now=5.2) is None


def test_memory_is_bounded_and_the_least_recent_is_forgotten() -> None:
    buckets = Buckets(Rate(1, 10), remembered=100)
    for n in range(1000):
        buckets.take(n, 10, now=float(n))
    assert len(buckets) == 100
    assert buckets.wait(999, 10, now=999.0) == 10
    assert buckets.wait(0, 10, now=999.0) == 0


@given(st.lists(st.tuples(st.integers(1, 200), st.floats(0, 5)), max_size=60))
def test_what_is_granted_never_exceeds_burst_and_rate(asked: list[tuple[int, float]]) -> None:
    budgets, now, granted = Budgets(Rate(7, 100), FREE), 0.0, 0
    for tokens, pause in asked:
        now += pause
        if budgets.spend("w", "t", tokens, now) is None:
            granted += tokens
        assert granted <= 100 + 7 * now + 100 + 1e-6  # one message may be larger than the bucket, and leaves a debt


def test_no_limit() -> None:
    assert Budgets(FREE, FREE).spend("w", "t", 1 << 40, now=0.0) is None
