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

    def over(self, seconds: float, more: float) -> Share:
        """Of ``seconds`` for each unit, and ``more`` beside."""
        return Share(*(value / seconds + more for value in (self.value, self.low, self.high)))

    def to_json(self) -> dict[str, float]:
        return {"share": round(self.value, 5), "low": round(self.low, 5), "high": round(self.high, 5)}


def per_unit(alone: Sequence[float], burdened: Sequence[float], units: Sequence[int]) -> Share:
    """The same in seconds for each unit of work, of which a pair did ``units``."""
    if not alone or not len(alone) == len(burdened) == len(units):
        raise ValueError("blocks must come in pairs")
    more, work = np.asarray(burdened) - np.asarray(alone), np.asarray(units)
    drawn = np.random.default_rng(SEED).integers(0, len(more), (DRAWS, len(more)))
    values = more[drawn].sum(axis=1) / work[drawn].sum(axis=1)
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Share(float(more.sum() / work.sum()), float(low), float(high))


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
