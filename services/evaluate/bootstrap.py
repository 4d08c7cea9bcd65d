"""Paired bootstrap: prompts are drawn again with replacement, the same ones for every method. Pure.

A figure is a ratio of sums over prompts. The prompt is the unit, since tokens of one answer depend on each other; the pairing
keeps what is common to all methods (a hard prompt) out of their differences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.common.rng import Floats, Ids

SAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Figure:
    """A value with its 95 % interval; ``None`` with the ``reason`` where there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Sampled:
    """A value, and what it is in each draw of prompts `[samples]`. Two of the same draws are paired."""

    value: float
    drawn: Floats

    def __sub__(self, other: Sampled) -> Sampled:
        return Sampled(self.value - other.value, self.drawn - other.drawn)

    def __truediv__(self, other: Sampled) -> Sampled:
        return Sampled(float(_divide(self.value, other.value)), _divide(self.drawn, other.drawn))

    def figure(self) -> Figure:
        if not np.isfinite(self.value):
            return Figure(None, reason="nothing to divide by")
        tail = 50.0 * (1.0 - LEVEL)
        low, high = np.percentile(self.drawn[np.isfinite(self.drawn)], [tail, 100.0 - tail])
        return Figure(self.value, float(low), float(high))


class Resampled:
    """``samples`` sets of prompt indices, drawn once from ``seed``."""

    def __init__(self, prompts: int, seed: int, samples: int = SAMPLES) -> None:
        draws: Ids = np.random.default_rng(seed).integers(0, prompts, size=(samples, prompts))
        self._weights: Floats = np.stack([np.bincount(row, minlength=prompts) for row in draws]).astype(float)

    def sampled(self, top: Floats, bottom: Floats) -> Sampled:
        """``sum(top) / sum(bottom)`` of all prompts and of each draw; both `[prompts]`."""
        return Sampled(float(_divide(top.sum(), bottom.sum())), _divide(self._weights @ top, self._weights @ bottom))

    def ratio(self, top: Floats, bottom: Floats) -> Figure:
        """``sum(top) / sum(bottom)``; both `[prompts]`."""
        return self.sampled(top, bottom).figure()

    def relative(self, top: Floats, bottom: Floats, to_top: Floats, to_bottom: Floats) -> Figure:
        """Ratio of two ratios over the same prompts."""
        return (self.sampled(top, bottom) / self.sampled(to_top, to_bottom)).figure()

    def difference(self, top: Floats, bottom: Floats, from_top: Floats, from_bottom: Floats) -> Figure:
        """Difference of two ratios over the same prompts."""
        return (self.sampled(top, bottom) - self.sampled(from_top, from_bottom)).figure()


def _divide(top: Floats | float, bottom: Floats | float) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.divide(top, bottom), dtype=float)
