"""The edge worker's metrics, in an injected registry. Counters and histograms; ratios are left to queries."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry

from services.common import codec
from services.common.catalogue import edge as names
from services.common.catalogue.edge import CAUSE, POSITION, score_bin
from services.common.drift.monitor import Reading
from services.common.drift.monitor import State as DriftState
from services.common.messages import Verdict
from services.common.meters import Meters
from services.common.policy_reader import PolicyReader
from services.edge_worker.answer import AnswerStats, TokenOut
from services.edge_worker.breaker import State
from services.edge_worker.transcript import Flight
from services.edge_worker.worker import Observer


class EdgeMetrics(Observer):
    """Counts what sessions report; what each of them is stands in ``catalogue.edge``. The uplink's socket bytes are counted by
    ``uplink.UplinkMeter``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        meters = Meters(registry)
        self.tokens = meters.labelled(names.TOKENS)
        self.good_tokens = meters.counter(names.GOOD_TOKENS)
        self.answers = meters.counter(names.ANSWERS)
        self.running = meters.gauge(names.SESSIONS)

        self.rounds = meters.counter(names.ROUNDS)
        self.lost_rounds = meters.counter(names.LOST_ROUNDS)
        self.candidates = meters.counter(names.CANDIDATES)
        self.kept = meters.histogram(names.KEPT_TOKENS)
        self.judged_by_position = meters.labelled(names.JUDGED_POSITION)
        self.accepted_by_position = meters.labelled(names.ACCEPTED_POSITION)
        self.dropped = meters.counter(names.DROPPED_VERDICTS)

        self.round_trip = meters.histogram(names.ROUND_TRIP)
        self.round_draft = meters.histogram(names.ROUND_DRAFT)
        self.uplink = meters.histogram(names.ROUND_UPLINK)
        self.queue = meters.histogram(names.ROUND_QUEUE)
        self.verify = meters.histogram(names.ROUND_VERIFY)
        self.downlink = meters.histogram(names.ROUND_DOWNLINK)
        self.draft = meters.histogram(names.DRAFT_STEP)

        self.scores = meters.histogram(names.GATE_SCORE)
        self.audited_by_score = meters.labelled(names.AUDITED_SCORE)
        self.audit_by_score = meters.labelled(names.AUDIT_REJECTION)
        self.judged_by_score = meters.labelled(names.JUDGED_SCORE)
        self.refused_by_score = meters.labelled(names.REFUSED_SCORE)

        self.breaker = meters.gauge(names.BREAKER_STATE)
        self.opened = meters.counter(names.BREAKER_OPENED)
        self.breaker_changed(State.CLOSED, "")

    def token(self, token: TokenOut) -> None:
        self.tokens.labels(token.decision.value).inc()

    def round(self, flight: Flight, verdict: Verdict, seconds: float) -> None:
        self.rounds.inc()
        self.candidates.inc(sum(t.judged for t in flight.span))
        self.kept.observe(verdict.kept)
        self._segments(flight, verdict, seconds)
        self._by_score(flight, verdict)
        self._by_position(flight, verdict)

    def _segments(self, flight: Flight, verdict: Verdict, seconds: float) -> None:
        self.round_trip.observe(seconds)
        self.queue.observe(verdict.queue_seconds)
        self.verify.observe(verdict.verify_seconds)
        if not flight.audit_only:
            self.round_draft.observe(flight.draft_seconds)
        if flight.uplink_seconds is not None:
            self.uplink.observe(flight.uplink_seconds)
            self.downlink.observe(flight.downlink_seconds(verdict, seconds))

    def _by_position(self, flight: Flight, verdict: Verdict) -> None:
        reached = flight.span[: verdict.kept + verdict.corrected]
        judged = [at for at, token in enumerate(reached) if token.judged]
        for number, at in enumerate(judged, 1):
            self.judged_by_position.labels(POSITION.of(str(number))).inc()
            if at < verdict.kept:
                self.accepted_by_position.labels(POSITION.of(str(number))).inc()

    def _by_score(self, flight: Flight, verdict: Verdict) -> None:
        reached = flight.span[: verdict.kept + verdict.corrected]
        audits = codec.unpack_audits(verdict.audits)
        skipped = [t for t in reached[: verdict.kept] if not t.judged]
        for token, audit in zip(skipped, audits, strict=False):
            score = score_bin(token.u)
            self.audited_by_score.labels(score).inc()
            self.audit_by_score.labels(score).inc(audit)
        for at, token in enumerate(reached):
            if token.judged:
                self.judged_by_score.labels(score_bin(token.u)).inc()
                if verdict.corrected and at == verdict.kept:
                    self.refused_by_score.labels(score_bin(token.u)).inc()

    def scored(self, u: float) -> None:
        self.scores.observe(u)

    def lost(self, cause: str) -> None:
        self.lost_rounds.labels(CAUSE.of(cause)).inc()

    def drafted(self, seconds: float) -> None:
        self.draft.observe(seconds)

    def late(self) -> None:
        self.dropped.labels("late").inc()

    def unknown(self) -> None:
        self.dropped.labels("ended").inc()

    def breaker_changed(self, state: State, cause: str) -> None:
        for one in State:
            self.breaker.labels(one.value).set(one is state)
        if state is State.OPEN:
            self.opened.labels(CAUSE.of(cause)).inc()

    def ended(self, stats: AnswerStats, *, objective_seconds: float | None, drifted: bool) -> None:
        """An answer is over. ``objective_seconds``: most seconds of drafting and waiting per token for its tokens to count as
        goodput; ``drifted``: the measured damage is beyond its bound."""
        self.answers.labels(stats.finish_reason or "stopped", "local" if stats.kept_local else "asked").inc()
        seconds = stats.draft_seconds + stats.wait_seconds
        in_time = objective_seconds is None or seconds <= objective_seconds * stats.total
        if in_time and not drifted:
            self.good_tokens.inc(stats.total - stats.unverified)


class KnobMetrics:
    """The knobs that a new answer gets, read at each scrape: those of the ``policy`` in force, or the worker's own."""

    def __init__(
        self, registry: CollectorRegistry, device_class: str, *, k: int, gamma: float, policy: PolicyReader | None
    ) -> None:
        def found(name: str, own: float) -> float:
            in_force = None if policy is None else policy.of(device_class)
            return own if in_force is None else float(getattr(in_force, name))

        meters = Meters(registry)
        meters.gauge(names.KNOB_K).labels(device_class).set_function(lambda: found("k", k))
        meters.gauge(names.KNOB_GAMMA).labels(device_class).set_function(lambda: found("gamma", gamma))
        meters.gauge(names.POLICY_FOLLOWED).labels(device_class).set_function(lambda: found("version", 0))


class DriftMetrics:
    """Damage by device class. From the counters a query has the fleet's: ``audit_weighted / audit_answered_tokens`` per token,
    ``watched_damage / watched_answers`` per answer."""

    def __init__(self, registry: CollectorRegistry, device_class: str) -> None:
        meters = Meters(registry)
        self.audited = meters.counter(names.AUDITED).labels(device_class)
        self.unaudited = meters.counter(names.UNAUDITED).labels(device_class)
        self.weighted = meters.counter(names.AUDIT_WEIGHTED).labels(device_class)
        self.answered = meters.counter(names.AUDIT_ANSWERED).labels(device_class)
        self.answers = meters.counter(names.WATCHED_ANSWERS).labels(device_class)
        self.damage = meters.counter(names.WATCHED_DAMAGE).labels(device_class)
        self.clipped = meters.counter(names.WATCHED_CLIPPED).labels(device_class)
        self.alarms = meters.counter(names.DRIFT_ALARMS).labels(device_class)
        self._mean = meters.gauge(names.DRIFT_DAMAGE).labels(device_class)
        self._lower = meters.gauge(names.DRIFT_LOWER).labels(device_class)
        self._upper = meters.gauge(names.DRIFT_UPPER).labels(device_class)
        self._alpha = meters.gauge(names.DRIFT_ALPHA).labels(device_class)
        self._gamma = meters.gauge(names.GAMMA_BOUND).labels(device_class)
        self._device_class = device_class
        self._state = meters.gauge(names.DRIFT_STATE)

    def answer(self, stats: AnswerStats, *, complete: bool) -> None:
        """An answer has ended; ``complete``: its damage could be estimated."""
        self.audited.inc(stats.audits.audited)
        self.unaudited.inc(stats.unaudited)
        if complete:
            self.weighted.inc(stats.audits.weighted_sum)
            self.answered.inc(stats.total)

    def watched(self, loss: float, damage: float) -> None:
        self.answers.inc()
        self.damage.inc(loss)
        self.clipped.inc(damage - loss)

    def show(self, reading: Reading, alpha: float | None, gamma: float) -> None:
        self._mean.set(reading.damage)
        self._lower.set(reading.lower)
        self._upper.set(reading.upper)
        self._alpha.set(math.nan if alpha is None else alpha)
        self._gamma.set(gamma)
        for state in DriftState:
            self._state.labels(self._device_class, state.value).set(state is reading.state)
