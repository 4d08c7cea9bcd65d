"""Every PromQL query of the collector, in one table, and every metric name in it.

``{slow}`` and ``{fast}`` are the windows. Edges carry their class on ``sluice_gamma_bound``: the other series of an instance
are joined with it, so a class costs no label anywhere else. A quantity whose series are missing gives an empty answer, which
is no zero."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.catalogue import edge, shared, verifier

# Of edges. Those marked (*) are counted by score: label ``score`` is the upper end of the bin.
TOKENS = edge.TOKENS.series
ROUNDS = edge.ROUNDS.series
SESSIONS = edge.SESSIONS.series
DRAFT_SECONDS = edge.DRAFT_STEP.series
ROUND_TRIP = edge.ROUND_TRIP.series
ROUND_QUEUE = edge.ROUND_QUEUE.series
ROUND_VERIFY = edge.ROUND_VERIFY.series
GATE_SCORE = edge.GATE_SCORE.series
AUDITED = edge.AUDITED_SCORE.series  # (*)
AUDIT = edge.AUDIT_REJECTION.series  # (*)
JUDGED = edge.JUDGED_SCORE.series  # (*)
REFUSED = edge.REFUSED_SCORE.series  # (*)
GAMMA_BOUND = edge.GAMMA_BOUND.series
ENERGY = shared.ENERGY.series  # of edges and verifiers, by component
# Of verifiers
BUSY = verifier.ENGINE_BUSY.series
PARTITIONS = verifier.PARTITIONS.series

NAMES = (
    *(TOKENS, ROUNDS, SESSIONS, DRAFT_SECONDS, ROUND_TRIP, ROUND_QUEUE, ROUND_VERIFY, GATE_SCORE, AUDITED, AUDIT, JUDGED),
    *(REFUSED, GAMMA_BOUND, ENERGY, BUSY, PARTITIONS),
)

_OF_CLASS = f" * on (instance) group_left (device_class) group by (instance, device_class) ({GAMMA_BOUND})"


@dataclass(frozen=True)
class Windows:
    """Seconds: of rates, of those that must see a drift, and between two scrapes."""

    slow: float = 20.0
    fast: float = 10.0
    scrape: float = 5.0

    def fill(self, text: str) -> str:
        for name in ("slow", "fast", "scrape"):
            text = text.replace(f"{{{name}}}", f"{round(getattr(self, name) * 1000)}ms")  # PromQL has no fractions
        return text


def _rate(name: str, window: str = "slow", by: str = "device_class") -> str:
    return f"sum by ({by}) (rate({name}[{{{window}}}]){_OF_CLASS})"


def _mean(name: str) -> str:
    return f"{_rate(name + '_sum')} / {_rate(name + '_count')}"


def _joules(components: str) -> str:
    return f'sum by (device_class) (rate({ENERGY}{{component=~"{components}"}}[{{slow}}]){_OF_CLASS})'


# By the name of the reading; each answer has one sample a class, label ``device_class``.
OF_CLASS = {
    "devices": f"sum by (device_class) ({SESSIONS}{_OF_CLASS})",
    "devices_mean": f"sum by (device_class) (avg_over_time({SESSIONS}[{{slow}}]){_OF_CLASS})",
    "tokens_per_second": _rate(TOKENS),
    "drafted_per_second": _rate(f"{DRAFT_SECONDS}_count"),
    "rounds_per_second": _rate(ROUNDS),
    "draft_seconds": _mean(DRAFT_SECONDS),
    "round_trip_seconds": _mean(ROUND_TRIP),
    "round_trip_p95_seconds": f"histogram_quantile(0.95, {_rate(ROUND_TRIP + '_bucket', by='device_class, le')})",
    "queue_seconds": _mean(ROUND_QUEUE),
    "verify_seconds": _mean(ROUND_VERIFY),
    "drafting_joules_per_second": _joules("draft|wait"),
    "asking_joules_per_second": _joules("radio"),
    "damage": f"{_rate(AUDIT, 'fast')} / {_rate(TOKENS, 'fast')}",
    "damage_mean": f"{_rate(AUDIT)} / {_rate(TOKENS)}",
    "gamma_bound": f"min by (device_class) ({GAMMA_BOUND})",
}
AGE_OF_CLASS = f"max by (device_class) ((time() - timestamp({SESSIONS})){_OF_CLASS})"

# One sample.
OF_POOL = {
    "utilisation": f"avg(rate({BUSY}[{{slow}}]))",
    "watts": f"sum(rate({ENERGY}[{{slow}}]) * on (instance) group_left () group by (instance) ({PARTITIONS}))",
    "verifiers": f"count({PARTITIONS})",
    "verifiers_mean": f"avg_over_time(count({PARTITIONS})[{{slow}}:{{scrape}}])",
}
AGE_OF_POOL = f"max(time() - timestamp({PARTITIONS}))"

# One sample for each class and bin: label ``le`` of the histogram (which is cumulative), ``score`` of the others.
SCORES = {
    "drafted": _rate(f"{GATE_SCORE}_bucket", by="device_class, le"),
    "audited": _rate(AUDITED, by="device_class, score"),
    "audit": _rate(AUDIT, by="device_class, score"),
    "judged": _rate(JUDGED, by="device_class, score"),
    "refused": _rate(REFUSED, by="device_class, score"),
}
