"""Every PromQL query of the collector.

Edges carry their class on ``sluice_gamma_bound``: the other series of an instance are joined with it, so a class costs no label
anywhere else. A quantity whose series are missing gives an empty answer, which is no zero.

Verifiers are ours; an edge may be broken or hostile. So no sum rests on what one edge says of itself: one that reports more
than ``MOST_TIMES`` what the median edge of its class does is named by ``left_out`` and asked no further, its damage counts up
to ``damage_cap`` a token, bounds and ages are medians, and what the pool serves is taken from the verifiers. That leaves one
of ``n`` alike edges a weight of at most ``MOST_TIMES / (n - 1 + MOST_TIMES)``."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

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
VERDICTS = verifier.VERDICTS.series

MOST_TIMES = 4.0  # of the median edge: what counts of an edge
MOST_DELAY = 10.0  # times the median round trip: what an edge may say of its delays, which do differ
MOST_JOULES = 20.0  # times the median: devices of a class may be more different in this than in what they answer
DAMAGE_TIMES = 3.0  # of the median edge's damage, or of the budget: what counts of an edge


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


@dataclass(frozen=True)
class Fleet:
    """Whom to ask. ``edges``, ``verifiers``: label matchers (``job="edge-worker"``) of targets, which Prometheus sets and
    nobody can claim; empty: whoever has the metric. ``left_out``: instances of edges that do not count."""

    edges: str = ""
    verifiers: str = ""
    left_out: tuple[str, ...] = field(default=())

    def edge(self, name: str, more: str = "") -> str:
        names = "|".join(re.escape(one) for one in self.left_out)
        return name + _braces(self.edges, more, f"instance!~{json.dumps(names)}" if names else "")

    def verifier(self, name: str, more: str = "") -> str:
        return name + _braces(self.verifiers, more)


def _braces(*matchers: str) -> str:
    return "{" + ", ".join(m for m in matchers if m) + "}" if any(matchers) else ""


def _joined(fleet: Fleet) -> str:
    """One for each edge, by instance and class; an edge of several classes has none."""
    bound = fleet.edge(GAMMA_BOUND)
    one = f"group by (instance, device_class) ({bound}) unless on (instance) (count by (instance) ({bound}) > 1)"
    return f"* on (instance) group_left (device_class) ({one})"


def _good(series: str, window: str = "slow") -> str:
    """Rate of each series; a broken one, which would break every sum that it is in, has none."""
    return f"(rate({series}[{{{window}}}]) >= 0)"


# -- first of all: whom to leave out, and what damage is typical ------------------------------------------------------


def left_out(fleet: Fleet) -> dict[str, str]:
    """By what it says too much of: a sample for each edge that does not count, its value how many times too much."""
    own = _joined(fleet)

    def each(expression: str) -> str:
        return f"(sum by (instance) ({expression}) {own})"

    def median(of: str) -> str:
        return f"quantile by (device_class) (0.5, {of} > 0)"

    def beyond(what: str, of: str, times: float) -> str:
        return f"{what} / on (device_class) group_left () {median(of)} > {times:g}"

    def delay(name: str) -> str:
        return f"({each(_good(fleet.edge(name + '_sum')))} / on (instance, device_class) {rounds})"

    drafted = each(_good(fleet.edge(DRAFT_SECONDS + "_count")))
    rounds = each(_good(fleet.edge(ROUND_TRIP + "_count")))
    spent = each(_good(fleet.edge(ENERGY)))
    sessions = each(f"avg_over_time({fleet.edge(SESSIONS)}[{{slow}}])")
    drafting = f"({each(_good(fleet.edge(DRAFT_SECONDS + '_sum')))} / on (instance, device_class) {drafted})"
    buckets = f"(max by (instance) ({_good(fleet.edge(GATE_SCORE + '_bucket'))}) {own})"
    trips = f"(histogram_quantile(0.5, sum by (instance, le) ({_good(fleet.edge(ROUND_TRIP + '_bucket'))})) {own})"
    found = {
        "several device classes": f"count by (instance) ({fleet.edge(GAMMA_BOUND)}) > 1",
        "sessions": beyond(sessions, sessions, MOST_TIMES),
        "drafted tokens": beyond(drafted, drafted, MOST_TIMES),
        "rounds": beyond(each(_good(fleet.edge(ROUNDS))), rounds, MOST_TIMES),
        "round trips": beyond(rounds, rounds, MOST_TIMES),
        "draft seconds": beyond(drafting, drafting, MOST_TIMES),
        "median round trip": beyond(trips, trips, MOST_DELAY),
        "energy": beyond(spent, spent, MOST_JOULES),
        "gate scores": beyond(buckets, drafted, MOST_TIMES),
    }
    for name in (ROUND_TRIP, ROUND_QUEUE, ROUND_VERIFY):
        found[f"{name.removeprefix('sluice_')}"] = beyond(delay(name), delay(ROUND_TRIP), MOST_DELAY)
    for what, name, of in (
        ("tokens", TOKENS, TOKENS),
        ("audited", AUDITED, AUDITED),
        ("audits", AUDIT, AUDITED),
        ("judged", JUDGED, JUDGED),
        ("refused", REFUSED, JUDGED),
    ):
        found[what] = beyond(each(_good(fleet.edge(name))), each(_good(fleet.edge(of))), MOST_TIMES)
    return found


def typical_damage(fleet: Fleet) -> str:
    """One sample a class: of its median edge."""
    one = f"sum by (instance) ({_good(fleet.edge(AUDIT))}) / (sum by (instance) ({_good(fleet.edge(TOKENS))}) > 0)"
    return f"quantile by (device_class) (0.5, ({one}) {_joined(fleet)})"


# -- then: the inputs -------------------------------------------------------------------------------------------------


def of_class(fleet: Fleet, damage_cap: float) -> dict[str, str]:
    """By the name of the reading; each answer has one sample a class, label ``device_class``."""
    own, scrapes = _joined(fleet), fleet.edge(SESSIONS)

    def rate(name: str, window: str = "slow", by: str = "device_class", more: str = "") -> str:
        return f"sum by ({by}) ({_good(fleet.edge(name, more), window)} {own})"

    def mean(name: str) -> str:
        return f"{rate(name + '_sum')} / {rate(name + '_count')}"

    def damage(window: str) -> str:
        audits = f"sum by (instance) ({_good(fleet.edge(AUDIT), window)})"
        tokens = f"(sum by (instance) ({_good(fleet.edge(TOKENS), window)}) > 0)"
        clipped = f"clamp_max({audits} / {tokens}, {damage_cap:g}) * {tokens}"
        return f"sum by (device_class) (({clipped}) {own}) / {rate(TOKENS, window)}"

    return {
        "devices": f"sum by (device_class) (({scrapes} >= 0) {own})",
        "devices_mean": f"sum by (device_class) ((avg_over_time({scrapes}[{{slow}}]) >= 0) {own})",
        "tokens_per_second": rate(TOKENS),
        "drafted_per_second": rate(f"{DRAFT_SECONDS}_count"),
        "rounds_per_second": rate(ROUNDS),
        "draft_seconds": mean(DRAFT_SECONDS),
        "round_trip_seconds": mean(ROUND_TRIP),
        "round_trip_p95_seconds": f"histogram_quantile(0.95, {rate(ROUND_TRIP + '_bucket', by='device_class, le')})",
        "queue_seconds": mean(ROUND_QUEUE),
        "verify_seconds": mean(ROUND_VERIFY),
        "drafting_joules_per_second": rate(ENERGY, more='component=~"draft|wait"'),
        "asking_joules_per_second": rate(ENERGY, more='component="radio"'),
        "damage": damage("fast"),
        "damage_mean": damage("slow"),
        "gamma_bound": f"quantile by (device_class) (0.5, ({fleet.edge(GAMMA_BOUND)} >= 0) {own})",
    }


def age_of_class(fleet: Fleet) -> str:
    return f"quantile by (device_class) (0.5, (time() - timestamp({fleet.edge(SESSIONS)})) {_joined(fleet)})"


def of_pool(fleet: Fleet) -> dict[str, str]:
    """One sample each. The pool are the verifiers that are there now and have had partitions lately: one that still loads its
    model, or has nothing to read, carries no load, and a rebalance takes no verifier away. The busy time is that of all of
    them over their number at the time, so that it is each one's share also while verifiers come and go."""
    partitions, busy, energy = fleet.verifier(PARTITIONS), fleet.verifier(BUSY), fleet.verifier(ENERGY)
    verdicts = fleet.verifier(VERDICTS, 'status="ok"')
    serving = f"count(max_over_time({partitions}[{{slow}}]) > 0 and {partitions} >= 0)"
    then = f"avg_over_time(({serving})[{{slow}}:{{scrape}}])"
    return {
        "utilisation": f"sum(rate({busy}[{{slow}}])) / {then}",
        "watts": f"sum(rate({energy}[{{slow}}]) * on (instance) group_left () group by (instance) ({partitions}))",
        "verifiers": serving,
        "verifiers_mean": then,
        "verdicts_per_second": f"sum(rate({verdicts}[{{slow}}]))",
    }


def age_of_pool(fleet: Fleet) -> str:
    return f"max(time() - timestamp({fleet.verifier(PARTITIONS)}))"


def scores(fleet: Fleet) -> dict[str, str]:
    """One sample for each class and bin: label ``le`` of the histogram (which is cumulative), ``score`` of the others."""
    own = _joined(fleet)
    names = {"audited": AUDITED, "audit": AUDIT, "judged": JUDGED, "refused": REFUSED}
    found = {"drafted": f"sum by (device_class, le) ({_good(fleet.edge(GATE_SCORE + '_bucket'))} {own})"}
    return found | {n: f"sum by (device_class, score) ({_good(fleet.edge(series))} {own})" for n, series in names.items()}
