"""When the breaker opens, how it probes, and what it tells."""

from __future__ import annotations

import random

from prometheus_client import CollectorRegistry

from services.edge_worker.breaker import Breaker, Permit, State
from services.edge_worker.metrics import EdgeMetrics


def opened(cause: str = "deadline") -> Breaker:
    breaker = Breaker(failures=2, pause_seconds=10, pause_max_seconds=30, jitter=random.Random(1))
    for _ in range(2):
        breaker.failure(0, cause, admitted(breaker, 0))
    assert breaker.state is State.OPEN
    return breaker


def admitted(breaker: Breaker, now: float) -> Permit:
    permit = breaker.admit(now)
    assert permit is not None
    return permit


def test_it_opens_probes_once_and_closes() -> None:
    breaker = opened()
    assert breaker.admit(8.9) is None
    probe = admitted(breaker, 11.1)
    assert breaker.admit(11.2) is None, "one probe at a time"
    breaker.failure(12, "kafka", probe)
    assert breaker.cause == "kafka"
    assert breaker.admit(12 + 17.9) is None, "the pause doubles"
    probe = admitted(breaker, 12 + 22.1)
    breaker.abandon(probe)
    assert breaker.admit(12 + 22.2) is not None, "a cancelled probe leaves room for another"
    breaker.success()
    assert breaker.state is State.CLOSED
    assert breaker.cause == ""


def test_rounds_sent_before_it_opened_do_not_lengthen_the_pause() -> None:
    """Four sessions had a round out when the pool died: one outage, not four."""
    breaker = Breaker(failures=2, pause_seconds=10, pause_max_seconds=300, jitter=random.Random(1))
    permits = [admitted(breaker, 0) for _ in range(6)]
    for permit in permits:
        breaker.failure(1, "deadline", permit)
    assert breaker.admit(1 + 8.9) is None
    assert breaker.admit(1 + 11.1) is not None


def test_a_session_that_ends_does_not_free_another_one_s_probe() -> None:
    breaker = Breaker(failures=2, pause_seconds=10, jitter=random.Random(1))
    bystander = admitted(breaker, 0)
    for _ in range(2):
        breaker.failure(0, "deadline", admitted(breaker, 0))
    probe = admitted(breaker, 12)
    breaker.abandon(bystander)
    breaker.abandon(None)
    assert breaker.admit(12.1) is None, "a second probe beside the first"
    seen = []
    breaker.on_change = lambda state, _: seen.append(state)
    breaker.failure(12.2, "deadline", bystander)
    assert seen == [], "only the probe decides"
    breaker.failure(12.3, "deadline", probe)
    assert seen == [State.OPEN]


def test_a_verdict_of_any_round_closes_it() -> None:
    breaker = opened()
    breaker.success()
    assert breaker.admit(0.1) is not None
    breaker.failure(0.2, "deadline", admitted(breaker, 0.1))
    assert breaker.state is State.CLOSED, "it counts anew"


def test_announcing_waits_for_a_probe_under_way() -> None:
    breaker = opened()
    assert breaker.blocking(5)
    assert not breaker.blocking(12)
    probe = admitted(breaker, 12)
    assert breaker.blocking(12)
    breaker.abandon(probe)
    assert not breaker.blocking(12)


def test_its_state_and_its_openings_by_cause_are_metrics() -> None:
    registry = CollectorRegistry()
    metrics = EdgeMetrics(registry)

    def state() -> dict[str, float | None]:
        return {s.value: registry.get_sample_value("sluice_breaker_state", {"state": s.value}) for s in State}

    assert state() == {"closed": 1, "open": 0, "half_open": 0}
    breaker = Breaker(failures=1, pause_seconds=1, jitter=random.Random(1), on_change=metrics.breaker_changed)
    breaker.failure(0, "redis")
    assert state() == {"closed": 0, "open": 1, "half_open": 0}
    probe = admitted(breaker, 2)
    assert state() == {"closed": 0, "open": 0, "half_open": 1}
    breaker.failure(2, "kafka", probe)
    admitted(breaker, 5)
    breaker.success()
    assert state() == {"closed": 1, "open": 0, "half_open": 0}
    counted = {c: registry.get_sample_value("sluice_breaker_opened_total", {"cause": c}) for c in ("redis", "kafka")}
    assert counted == {"redis": 1, "kafka": 1}
