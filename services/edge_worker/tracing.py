"""The trace of one answer: a span for the answer and, under it, one for each segment of its rounds that the device sees."""

from __future__ import annotations

import time
from collections.abc import Callable

from services.common.messages import Verdict
from services.common.tracing import Tracer
from services.edge_worker.answer import AnswerStats
from services.edge_worker.transcript import Flight


class AnswerTrace:
    """``clock``: that of the session, in seconds; ``client``: traceparent of the span that asked for the answer, if any. The
    verifier adds ``queue`` and ``verify`` under the answer's."""

    def __init__(self, tracer: Tracer, session: bytes, clock: Callable[[], float], client: str = "") -> None:
        self._tracer, self._clock = tracer, clock
        self._epoch = time.time() - clock()
        self._session = session.hex()
        self._answer = tracer.begin("answer", time.time(), {"sluice.session": self._session}, client)

    @property
    def parent(self) -> str:
        """What ``Open`` carries."""
        return self._answer.traceparent

    def round(self, flight: Flight, verdict: Verdict) -> None:
        """The ``ok`` verdict of a round has just come."""
        if not self.parent:
            return
        now, about = self._clock(), self._about(flight)
        if flight.draft_from is not None:
            told = {**about, "sluice.span_tokens": len(flight.span), "sluice.candidates": sum(t.judged for t in flight.span)}
            self._span("draft", flight.draft_from, flight.first_sent_at, told)
        if flight.uplink_seconds is not None:
            self._span("uplink", flight.sent_at, flight.sent_at + flight.uplink_seconds, about)
            back = flight.downlink_seconds(verdict, now - flight.first_sent_at)
            self._span("downlink", now - back, now, {**about, "sluice.kept": verdict.kept})

    def lost(self, flight: Flight, cause: str) -> None:
        """An attempt at a round has got no verdict that could be used."""
        if self.parent:
            self._span("lost", flight.sent_at, self._clock(), {**self._about(flight), "sluice.cause": cause})

    def end(self, stats: AnswerStats) -> None:
        told: dict[str, str | int] = {
            "sluice.tokens": stats.total,
            "sluice.rounds": stats.rounds,
            "sluice.lost_rounds": stats.lost_rounds,
            "sluice.kept_local": stats.kept_local,
            "sluice.end": stats.finish_reason or "stopped",
        }
        self._answer.end(time.time(), told)

    def _about(self, flight: Flight) -> dict[str, str | int]:
        return {"sluice.session": self._session, "sluice.round": flight.round, "sluice.attempt": flight.attempt}

    def _span(self, name: str, start: float, end: float, about: dict[str, str | int]) -> None:
        self._tracer.span(name, self.parent, self._epoch + start, self._epoch + end, about)
