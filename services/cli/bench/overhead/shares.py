"""From seconds of blocks of work, done in turn with and without something, to the share that it costs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 4000
SEED = 1
LEVEL = 0.95


@dataclass(frozen=True)
class Share:
    """What ``value`` more is spent, relative to the work alone; the interval is a bootstrap's over pairs of blocks."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return {"share": round(self.value, 5), "low": round(self.low, 5), "high": round(self.high, 5)}


def share(alone: Sequence[float], burdened: Sequence[float]) -> Share:
    """Of pairs of blocks, the same work in each pair, in seconds. Sums are compared, since what happens once in many blocks, as
    a scrape does, counts too. Raises ``ValueError`` without pairs."""
    if not alone or len(alone) != len(burdened):
        raise ValueError("blocks must come in pairs")
    base, other = np.asarray(alone), np.asarray(burdened)
    drawn = np.random.default_rng(SEED).integers(0, len(base), (DRAWS, len(base)))
    values = other[drawn].sum(axis=1) / base[drawn].sum(axis=1) - 1.0
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Share(float(other.sum() / base.sum() - 1.0), float(low), float(high))
