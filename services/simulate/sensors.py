"""What the controller gets to see of a simulated fleet: counters as scraped, rates over windows, quantiles out of buckets.

As in the chart: counters are scraped every ``scrape_seconds``; a rate is the increase between the oldest and the newest scrape
inside its window over their distance; gauges are those of the last scrape. Each reading carries the age of that scrape.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from services.common.drift.adaptive import MOST_GAMMA
from services.common.rng import Floats
from services.policy.inputs import ClassInputs, Inputs, Reading, Scores
from services.simulate.fleet import Conditions
from services.simulate.world import RTT_EDGES, Counters, World


@dataclass
class _Scrape:
    at: float
    counters: Counters
    active: list[int]
    alive: int


@dataclass
class Sensors:
    """``up``: whether Prometheus answers."""

    edges: Floats
    scrape_seconds: float = 5.0
    window_seconds: float = 20.0
    fast_seconds: float = 10.0
    up: bool = True
    _kept: list[_Scrape] = field(default_factory=list)

    def scrape(self, world: World, conditions: Conditions) -> None:
        """To be called every ``scrape_seconds``; a Prometheus that is away scrapes nothing."""
        if self.up:
            self._kept.append(_Scrape(world.now, world.counters.copy(), list(conditions.active), conditions.alive))
            del self._kept[: -(2 + int(self.window_seconds / self.scrape_seconds))]

    def read(self, now: float, names: list[str]) -> Inputs:
        """The inputs that a collection at ``now`` finds."""
        slow, fast = self._pair(now, self.window_seconds), self._pair(now, self.fast_seconds)
        if not self.up or slow is None or fast is None:
            return Inputs(now)
        first, last = slow
        age, seconds = now - last.at, last.at - first.at
        inside = [s for s in self._kept if first.at <= s.at <= last.at]
        c0, c1 = first.counters, last.counters

        def pool(value: float) -> Reading:
            return Reading(value, age)

        verifiers = float(np.mean([s.alive for s in inside]))
        shared = {
            "utilisation": pool(float((c1.busy - c0.busy)[0]) / seconds / max(verifiers, 1e-9)),
            "watts": pool(float((c1.joules - c0.joules)[0]) / seconds),
            "verdicts_per_second": pool(float((c1.rounds - c0.rounds)[0].sum()) / seconds),
            "verifiers": pool(float(last.alive)),
            "verifiers_mean": pool(verifiers),
        }
        classes = {}
        for i, name in enumerate(names):
            devices = float(np.mean([s.active[i] for s in inside]))
            readings = _class(c0, c1, i, seconds, fast)
            readings |= {"devices": float(last.active[i]), "devices_mean": devices, "gamma_bound": MOST_GAMMA}
            drafted, audited, audit, judged, refused = (c1.scores - c0.scores)[i] / seconds
            scores = Scores(self.edges, drafted, audited, np.maximum(0.0, audit), judged, refused, age)
            classes[name] = ClassInputs({n: Reading(v, age) for n, v in readings.items()}, scores)
        return Inputs(now, shared, classes)

    def _pair(self, now: float, window: float) -> tuple[_Scrape, _Scrape] | None:
        inside = [s for s in self._kept if now - window - 1e-6 <= s.at <= now]
        return (inside[0], inside[-1]) if len(inside) > 1 else None


def _class(c0: Counters, c1: Counters, i: int, seconds: float, fast: tuple[_Scrape, _Scrape]) -> dict[str, float]:
    def increase(name: str) -> float:
        return float((getattr(c1, name) - getattr(c0, name))[0, i])

    out = {
        "tokens_per_second": increase("answered") / seconds,
        "drafted_per_second": increase("drafted") / seconds,
        "rounds_per_second": increase("rounds") / seconds,
        "drafting_joules_per_second": increase("drafting_joules") / seconds,
        "asking_joules_per_second": increase("asking_joules") / seconds,
    }
    if increase("drafted") > 0.0:
        out["draft_seconds"] = increase("draft_steps_seconds") / increase("drafted")
    if increase("rounds") > 0.0:
        for name, of in (("round_trip_seconds", "round_trip"), ("queue_seconds", "queue"), ("verify_seconds", "verify")):
            out[name] = increase(of) / increase("rounds")
        out["round_trip_p95_seconds"] = quantile(0.95, (c1.round_trips - c0.round_trips)[0, i])
    for name, (a, b) in (("damage_mean", (c0, c1)), ("damage", (fast[0].counters, fast[1].counters))):
        answered = float((b.answered - a.answered)[0, i])
        if answered > 0.0:
            out[name] = float((b.audit - a.audit)[0, i]) / answered
    return out


def quantile(q: float, counts: Floats) -> float:
    """As ``histogram_quantile``: linear inside the bucket. ``counts[n]`` lie between ``RTT_EDGES[n - 1]`` and ``[n]``."""
    total = np.cumsum(counts)
    at = int(np.searchsorted(total, q * total[-1]))
    if at <= 0 or counts[at] <= 0.0:
        return float(RTT_EDGES[max(at, 0)])
    inside = (q * total[-1] - total[at - 1]) / counts[at]
    return float(RTT_EDGES[at - 1] + inside * (RTT_EDGES[at] - RTT_EDGES[at - 1]))
