"""What the controller sees: one reading per quantity, each with its age. Pure.

A quantity that nobody reported is missing, never zero: an empty answer of Prometheus is not zero load.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from services.common.rng import Floats

# What a reading may be at most: anything beyond is a broken sensor. Below zero nothing of ours can be.
MOST = {
    "devices": 1e7,
    "devices_mean": 1e7,
    "tokens_per_second": 1e9,
    "drafted_per_second": 1e9,
    "rounds_per_second": 1e9,
    "verdicts_per_second": 1e9,
    "draft_seconds": 60.0,
    "round_trip_seconds": 600.0,
    "round_trip_p95_seconds": 600.0,
    "queue_seconds": 600.0,
    "verify_seconds": 600.0,
    "drafting_joules_per_second": 1e9,
    "asking_joules_per_second": 1e9,
    "damage": 1.0,
    "damage_mean": 1.0,
    "utilisation": 1.5,  # counters of several scrapes may say a little more than all of the time
    "watts": 1e7,
    "verifiers": 1e5,
    "verifiers_mean": 1e5,
    "gamma_bound": 100.0,
}


@dataclass(frozen=True)
class Reading:
    """``age_seconds``: how long before the observation the value was scraped."""

    value: float
    age_seconds: float = 0.0


@dataclass(frozen=True)
class Scores:
    """Tokens a second by gate score, in the bins between ``edges`` ``[bins + 1]`` (from 0 to 1), each array ``[bins]``.

    ``drafted``: all drafted tokens; ``audited`` and ``audit``: skipped tokens with a known rejection probability, and its sum;
    ``judged`` and ``refused``: candidates that a verdict decided on, and those of them that it corrected.
    """

    edges: Floats
    drafted: Floats
    audited: Floats
    audit: Floats
    judged: Floats
    refused: Floats
    age_seconds: float = 0.0

    @property
    def usable(self) -> bool:
        """Whether every entry is a finite, non-negative number and something was drafted."""
        rows = (self.drafted, self.audited, self.audit, self.judged, self.refused)
        good = all(bool(np.isfinite(row).all()) and bool((row >= 0.0).all()) for row in rows)
        rising = len(self.edges) > 1 and bool(np.isfinite(self.edges).all()) and bool((np.diff(self.edges) > 0.0).all())
        fits = all(row.shape == (len(self.edges) - 1,) for row in rows)
        return good and rising and fits and float(self.drafted.sum()) > 0.0 and bool((self.audit <= self.audited + 1e-9).all())


@dataclass(frozen=True)
class ClassInputs:
    """One device class. ``readings`` by the names in ``MOST``; ``damage`` is that of the short window, which sees a drift
    first."""

    readings: Mapping[str, Reading] = field(default_factory=dict)
    scores: Scores | None = None


@dataclass(frozen=True)
class Inputs:
    """All readings of one collection at ``now`` (seconds of the controller's clock). ``left_out``: edges that do not count,
    with what they say too much of."""

    now: float
    pool: Mapping[str, Reading] = field(default_factory=dict)
    classes: Mapping[str, ClassInputs] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)


NEEDED_OF_CLASS = ("devices", "tokens_per_second", "rounds_per_second", "draft_seconds", "round_trip_seconds")
NEEDED_OF_POOL = ("utilisation", "verifiers", "verdicts_per_second")


def sane(readings: Mapping[str, Reading], oldest_seconds: float) -> dict[str, Reading]:
    """Those that are numbers, possible, and young enough."""
    return {
        name: r
        for name, r in readings.items()
        if name in MOST
        and math.isfinite(r.value)
        and 0.0 <= r.value <= MOST[name]
        and math.isfinite(r.age_seconds)
        and r.age_seconds <= oldest_seconds
    }


def missing(inputs: ClassInputs, pool: Mapping[str, Reading], oldest_seconds: float) -> list[str]:
    """What a decision for this class would need and is not there (or is stale, or absurd), by name."""
    own, shared = sane(inputs.readings, oldest_seconds), sane(pool, oldest_seconds)
    out = [name for name in NEEDED_OF_CLASS if name not in own]
    out += [name for name in NEEDED_OF_POOL if name not in shared]
    if "draft_seconds" in own and own["draft_seconds"].value <= 0.0:
        out.append("draft_seconds")
    scores = inputs.scores
    if scores is None or not scores.usable or not scores.age_seconds <= oldest_seconds:
        out.append("scores")
    return out
