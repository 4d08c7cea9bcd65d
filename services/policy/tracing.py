"""The trace of one turn of the control loop: a span for the turn, one for each part of it, and one for each decision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from services.common.tracing import Tracer
from services.policy.decision import Decision


class TurnTrace:
    """``wall``: seconds of the epoch."""

    def __init__(self, tracer: Tracer, wall: Callable[[], float]) -> None:
        self._tracer, self._wall = tracer, wall
        self._turn = tracer.begin("policy turn", wall(), {})

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What is done in here is the part ``name``."""
        started = self._wall()
        try:
            yield
        finally:
            self._tracer.span(name, self._turn.traceparent, started, self._wall(), {})

    def decided(self, decisions: Iterable[Decision]) -> None:
        """What has just been decided, a span for each class of devices."""
        now = self._wall()
        for decision in decisions:
            told: dict[str, str | int | float | bool] = {
                "sluice.device_class": decision.device_class,
                "sluice.k": decision.k,
                "sluice.gamma": decision.gamma,
                "sluice.gamma_max": decision.gamma_max,
                "sluice.source": decision.source.value,
                "sluice.reason": decision.reason,
                "sluice.changed": decision.changed,
                "sluice.infeasible": ", ".join(decision.infeasible),
            }
            self._tracer.span("decision", self._turn.traceparent, now, now, told)

    def end(self, *, leading: bool, version: int) -> None:
        """The turn is over; ``version``: of the record in force."""
        self._turn.end(self._wall(), {"sluice.leading": leading, "sluice.policy_version": version})
