"""Metrics of edge workers. Pure."""

from __future__ import annotations

import bisect

from services.common.catalogue.metric import OTHER, Label, Maker, Service
from services.common.catalogue.shared import DEVICE_CLASS, REFUSALS

_MAKE = Maker((Service.EDGE,))
# From a millisecond, in which a broker near by answers, to what a thin link takes; fine where drafts and passes are.
_SECONDS = (
    *(0.001, 0.002, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0),
    *(10.0, 30.0),
)
# Finer than the others: its 95th percentile is held against a budget.
_TRIP_SECONDS = (
    *(0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5),
    *(2.0, 5.0, 10.0, 30.0),
)
# Bins of gate scores, from 0 to 1; their upper ends are the labels.
SCORE_EDGES = (0.0, 0.01, 0.02, 0.05, *(n / 20 for n in range(2, 21)))
LAST_POSITION = 16  # later ones share a label

DECISION = Label("decision", ("skipped", "accepted", "corrected", "bonus", "unverified"))
CAUSE = Label("cause", ("deadline", "kafka", "redis", "oversized", "invalid verdict", *REFUSALS, OTHER))
SCORE = Label("score", tuple(f"{edge:g}" for edge in SCORE_EDGES[1:]))
POSITION = Label("position", (*(str(n) for n in range(1, LAST_POSITION + 1)), OTHER))
DROPPED_REASON = Label("reason", ("late", "ended"))
END = Label("end", ("stop", "length", "error", "stopped"))
PATH = Label("path", ("asked", "local"))
BREAKER = Label("state", ("closed", "open", "half_open"))
DRIFT = Label("state", ("unbounded", "inside", "drifted"))
CHANNEL = Label("channel", ("kafka", "redis", "metrics"))


def score_bin(u: float) -> str:
    """The label of the bin with ``u``: above its lower end, at most its upper one, as the histogram counts."""
    return SCORE.values[min(max(bisect.bisect_left(SCORE_EDGES, u) - 1, 0), len(SCORE.values) - 1)]


TOKENS = _MAKE.counter("tokens", "tokens", "Answered tokens", DECISION)
GOOD_TOKENS = _MAKE.counter(
    "good_tokens",
    "tokens",
    "Goodput: answered tokens without the unverified ones, of answers inside the objective of time per token, "
    "while the measured damage is not beyond its bound",
)
ANSWERS = _MAKE.counter(
    "answers",
    "answers",
    "Answers by how they ended, and whether verifiers were to be asked or the whole stayed local",
    END,
    PATH,
)
SESSIONS = _MAKE.gauge("sessions", "answers", "Answers being written")

ROUNDS = _MAKE.counter("rounds", "rounds", "Rounds with an ok verdict")
LOST_ROUNDS = _MAKE.counter("lost_rounds", "rounds", "Rounds, or attempts at one, without a verdict", CAUSE)
CANDIDATES = _MAKE.counter("candidates", "tokens", "Candidates uploaded")
KEPT_TOKENS = _MAKE.histogram(
    "kept_tokens", "tokens", "Tokens of a span that a verdict kept", (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
)
JUDGED_POSITION = _MAKE.counter(
    "judged_candidates", "tokens", "Candidates accepted or corrected, by their number in the upload", POSITION
)
ACCEPTED_POSITION = _MAKE.counter(
    "accepted_candidates", "tokens", "Candidates accepted, by their number in the upload", POSITION
)
DROPPED_VERDICTS = _MAKE.counter(
    "dropped_verdicts", "verdicts", "Verdicts not used: late for their round, or of a session that has ended", DROPPED_REASON
)

ROUND_TRIP = _MAKE.histogram("round_trip_seconds", "seconds", "Upload to verdict", _TRIP_SECONDS)
ROUND_DRAFT = _MAKE.histogram("round_draft_seconds", "seconds", "Drafting the span of a round", _SECONDS)
ROUND_UPLINK = _MAKE.histogram("round_uplink_seconds", "seconds", "Upload until the broker has acknowledged it", _SECONDS)
ROUND_QUEUE = _MAKE.histogram("round_queue_seconds", "seconds", "Append to start of verification", _SECONDS)
ROUND_VERIFY = _MAKE.histogram("round_verify_seconds", "seconds", "Verification", _SECONDS)
ROUND_DOWNLINK = _MAKE.histogram(
    "round_downlink_seconds", "seconds", "What is left of the round trip: storing the verdict and its way back", _SECONDS
)
DRAFT_STEP = _MAKE.histogram("draft_step_seconds", "seconds", "One draft step", _SECONDS)
UPLINK_BYTES = _MAKE.counter(
    "uplink_bytes", "bytes", "Bytes written to the sockets towards Kafka and Redis, and those of pages of metrics", CHANNEL
)

GATE_SCORE = _MAKE.histogram("gate_score", "1", "Gate scores of drafted tokens", SCORE_EDGES[1:])
AUDITED_SCORE = _MAKE.counter(
    "audited_score_tokens", "tokens", "Skipped tokens that a verdict audited, by the upper end of their score's bin", SCORE
)
AUDIT_REJECTION = _MAKE.counter("audit_rejection", "tokens", "Sum of their rejection probabilities", SCORE)
JUDGED_SCORE = _MAKE.counter(
    "judged_score_tokens", "tokens", "Candidates accepted or corrected, by the upper end of their score's bin", SCORE
)
REFUSED_SCORE = _MAKE.counter(
    "refused_score_tokens", "tokens", "Candidates corrected, by the upper end of their score's bin", SCORE
)

BREAKER_STATE = _MAKE.gauge("breaker_state", "1", "1 for the state that the circuit breaker is in, else 0", BREAKER)
BREAKER_OPENED = _MAKE.counter("breaker_opened", "openings", "Openings of the circuit breaker", CAUSE)

KNOB_K = _MAKE.gauge("knob_k", "tokens", "Most candidates of one upload of a new answer that names no k", DEVICE_CLASS)
KNOB_GAMMA = _MAKE.gauge(
    "knob_gamma", "1", "Strictness of the gate for a new answer that names no gamma, before any bound of its own", DEVICE_CLASS
)
POLICY_FOLLOWED = _MAKE.gauge(
    "policy_followed", "1", "Version of the policy that these knobs are from; 0: the worker's own settings", DEVICE_CLASS
)

AUDITED = _MAKE.counter("audited_tokens", "tokens", "Skipped tokens whose audit is known", DEVICE_CLASS)
UNAUDITED = _MAKE.counter(
    "unaudited_tokens", "tokens", "Skipped tokens that neither a round nor the draw of audits covered", DEVICE_CLASS
)
AUDIT_WEIGHTED = _MAKE.counter(
    "audit_weighted",
    "tokens",
    "Audits over their inclusion probabilities, of answers without unaudited tokens",
    DEVICE_CLASS,
)
AUDIT_ANSWERED = _MAKE.counter(
    "audit_answered_tokens", "tokens", "Answered tokens of answers without unaudited tokens", DEVICE_CLASS
)
WATCHED_ANSWERS = _MAKE.counter("watched_answers", "answers", "Answers that count for the drift estimate", DEVICE_CLASS)
WATCHED_DAMAGE = _MAKE.counter(
    "watched_damage",
    "1",
    "Sum of their damages, clipped: what drift and the bound on gamma are decided by",
    DEVICE_CLASS,
)
WATCHED_CLIPPED = _MAKE.counter("watched_damage_clipped", "1", "Sum of what the clip took away from them", DEVICE_CLASS)
DRIFT_ALARMS = _MAKE.counter("drift_alarms", "alarms", "Times that the measured damage left its bound", DEVICE_CLASS)
DRIFT_DAMAGE = _MAKE.gauge("drift_damage", "1", "Mean damage per answer of the last answers", DEVICE_CLASS)
DRIFT_LOWER = _MAKE.gauge("drift_damage_lower", "1", "Lower confidence limit of it", DEVICE_CLASS)
DRIFT_UPPER = _MAKE.gauge("drift_damage_upper", "1", "Upper confidence limit of it", DEVICE_CLASS)
DRIFT_ALPHA = _MAKE.gauge("drift_alpha", "1", "Bound on it; not a number where none is known", DEVICE_CLASS)
DRIFT_STATE = _MAKE.gauge("drift_state", "1", "1 for the state that holds, else 0", DEVICE_CLASS, DRIFT)
GAMMA_BOUND = _MAKE.gauge("gamma_bound", "1", "Largest gamma of a new answer that wants a bound", DEVICE_CLASS)
