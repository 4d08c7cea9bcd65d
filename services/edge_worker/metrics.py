"""The edge worker's metrics, in an injected registry. Counters and histograms; ratios are left to queries."""

from __future__ import annotations

import bisect
import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.common import codec
from services.common.drift.monitor import Reading
from services.common.drift.monitor import State as DriftState
from services.common.messages import Verdict
from services.edge_worker.answer import AnswerStats, TokenOut
from services.edge_worker.breaker import State
from services.edge_worker.transcript import Flight
from services.edge_worker.worker import Observer

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


# Finer than the others: its 95th percentile is held against a budget.
TRIP_EDGES = (
    *(0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0),
    *(10.0, 30.0),
)
# Bins of gate scores, from 0 to 1; their upper ends are the labels.
SCORE_EDGES = (0.0, 0.01, 0.02, 0.05, *(n / 20 for n in range(2, 21)))
_SCORE_LABELS = tuple(f"{edge:g}" for edge in SCORE_EDGES[1:])


def score_bin(u: float) -> str:
    """The label of the bin with ``u``: above its lower end, at most its upper one, as the histogram counts."""
    return _SCORE_LABELS[min(max(bisect.bisect_left(SCORE_EDGES, u) - 1, 0), len(_SCORE_LABELS) - 1)]


class EdgeMetrics(Observer):
    """Counts what sessions report. The uplink's socket bytes are counted by ``uplink.UplinkMeter``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.tokens = Counter("sluice_tokens", "Answered tokens", ["decision"], registry=registry)
        self.rounds = Counter("sluice_rounds", "Rounds with an ok verdict", registry=registry)
        self.lost_rounds = Counter("sluice_lost_rounds", "Rounds without a verdict", ["cause"], registry=registry)
        self.candidates = Counter("sluice_candidates", "Candidates uploaded", registry=registry)
        self.kept = Histogram(
            "sluice_kept_tokens",
            "Tokens of a span that a verdict kept",
            buckets=(0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32),
            registry=registry,
        )
        self.round_trip = Histogram("sluice_round_trip_seconds", "Upload to verdict", buckets=TRIP_EDGES, registry=registry)
        self.queue = Histogram(
            "sluice_round_queue_seconds", "Append to start of verification", buckets=_SECONDS, registry=registry
        )
        self.verify = Histogram("sluice_round_verify_seconds", "Verification", buckets=_SECONDS, registry=registry)
        self.draft = Histogram("sluice_draft_step_seconds", "One draft step", buckets=_SECONDS, registry=registry)
        self.dropped = Counter(
            "sluice_dropped_verdicts",
            "Verdicts not used: late for their round, or of a session that has ended",
            ["reason"],
            registry=registry,
        )
        self.scores = Histogram(
            "sluice_gate_score", "Gate scores of drafted tokens", buckets=SCORE_EDGES[1:], registry=registry
        )
        by_score = ["score"]  # upper end of the bin
        self.audited_by_score = Counter(
            "sluice_audited_score_tokens", "Skipped tokens that a verdict audited", by_score, registry=registry
        )
        self.audit_by_score = Counter(
            "sluice_audit_rejection", "Sum of their rejection probabilities", by_score, registry=registry
        )
        self.judged_by_score = Counter(
            "sluice_judged_score_tokens", "Candidates accepted or corrected", by_score, registry=registry
        )
        self.refused_by_score = Counter("sluice_refused_score_tokens", "Candidates corrected", by_score, registry=registry)
        self.answers = Counter("sluice_answers", "Answers by how they ended", ["end"], registry=registry)
        self.running = Gauge("sluice_sessions", "Answers being written", registry=registry)
        self.breaker = Gauge(
            "sluice_breaker_state", "1 for the state that the circuit breaker is in, else 0", ["state"], registry=registry
        )
        self.opened = Counter("sluice_breaker_opened", "Openings of the circuit breaker", ["cause"], registry=registry)
        self.breaker_changed(State.CLOSED, "")

    def token(self, token: TokenOut) -> None:
        self.tokens.labels(token.decision.value).inc()

    def round(self, flight: Flight, verdict: Verdict, seconds: float) -> None:
        self.rounds.inc()
        self.candidates.inc(sum(t.judged for t in flight.span))
        self.kept.observe(verdict.kept)
        self.round_trip.observe(seconds)
        self.queue.observe(verdict.queue_seconds)
        self.verify.observe(verdict.verify_seconds)

        self._by_score(flight, verdict)

    def _by_score(self, flight: Flight, verdict: Verdict) -> None:
        reached = flight.span[: verdict.kept + verdict.corrected]
        audits = codec.unpack_audits(verdict.audits)
        skipped = [t for t in reached[: verdict.kept] if not t.judged]
        for token, audit in zip(skipped, audits, strict=False):
            self.audited_by_score.labels(score_bin(token.u)).inc()
            self.audit_by_score.labels(score_bin(token.u)).inc(audit)
        for at, token in enumerate(reached):
            if token.judged:
                self.judged_by_score.labels(score_bin(token.u)).inc()
                if verdict.corrected and at == verdict.kept:
                    self.refused_by_score.labels(score_bin(token.u)).inc()

    def scored(self, u: float) -> None:
        self.scores.observe(u)

    def lost(self, cause: str) -> None:
        self.lost_rounds.labels(cause).inc()

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
            self.opened.labels(cause).inc()


class DriftMetrics:
    """Damage by device class. From the counters a query has the fleet's: ``audit_weighted / audit_answered_tokens`` per token,
    ``watched_damage / watched_answers`` per answer."""

    def __init__(self, registry: CollectorRegistry, device_class: str) -> None:
        def counter(name: str, text: str) -> Counter:
            return Counter(f"sluice_{name}", text, ["device_class"], registry=registry).labels(device_class)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"sluice_{name}", text, ["device_class"], registry=registry).labels(device_class)

        self.audited = counter("audited_tokens", "Skipped tokens whose audit is known")
        self.unaudited = counter("unaudited_tokens", "Skipped tokens that neither a round nor the draw of audits covered")
        self.weighted = counter(
            "audit_weighted", "Audits over their inclusion probabilities, of answers without unaudited tokens"
        )
        self.answered = counter("audit_answered_tokens", "Answered tokens of answers without unaudited tokens")
        self.answers = counter("watched_answers", "Answers that count for the drift estimate")
        self.damage = counter(
            "watched_damage", "Sum of their damages, clipped: what drift and the bound on gamma are decided by"
        )
        self.clipped = counter("watched_damage_clipped", "Sum of what the clip took away from them")
        self.alarms = counter("drift_alarms", "Times that the measured damage left its bound")
        self._mean = gauge("drift_damage", "Mean damage per answer of the last answers")
        self._lower = gauge("drift_damage_lower", "Lower confidence limit of it")
        self._upper = gauge("drift_damage_upper", "Upper confidence limit of it")
        self._alpha = gauge("drift_alpha", "Bound on it; not a number where none is known")
        self._gamma = gauge("gamma_bound", "Largest gamma of a new answer that wants a bound")
        self._device_class = device_class
        self._state = Gauge(
            "sluice_drift_state", "1 for the state that holds, else 0", ["device_class", "state"], registry=registry
        )

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
