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


class Resampled:
    """``samples`` sets of prompt indices, drawn once from ``seed``."""

    def __init__(self, prompts: int, seed: int, samples: int = SAMPLES) -> None:
        draws: Ids = np.random.default_rng(seed).integers(0, prompts, size=(samples, prompts))
        self._weights: Floats = np.stack([np.bincount(row, minlength=prompts) for row in draws]).astype(float)

    def ratio(self, top: Floats, bottom: Floats) -> Figure:
        """``sum(top) / sum(bottom)``; both `[prompts]`."""
        return self._figure(_divide(top.sum(), bottom.sum()), self._ratios(top, bottom))

    def relative(self, top: Floats, bottom: Floats, to_top: Floats, to_bottom: Floats) -> Figure:
        """Ratio of two ratios over the same prompts."""
        value = _divide(_divide(top.sum(), bottom.sum()), _divide(to_top.sum(), to_bottom.sum()))
        return self._figure(value, _divide(self._ratios(top, bottom), self._ratios(to_top, to_bottom)))

    def difference(self, top: Floats, bottom: Floats, from_top: Floats, from_bottom: Floats) -> Figure:
        """Difference of two ratios over the same prompts."""
        value = _divide(top.sum(), bottom.sum()) - _divide(from_top.sum(), from_bottom.sum())
        return self._figure(value, self._ratios(top, bottom) - self._ratios(from_top, from_bottom))

    def _ratios(self, top: Floats, bottom: Floats) -> Floats:
        return _divide(self._weights @ top, self._weights @ bottom)

    @staticmethod
    def _figure(value: Floats, drawn: Floats) -> Figure:
        drawn = drawn[np.isfinite(drawn)]
        if not np.isfinite(value):
            return Figure(None, reason="nothing to divide by")
        tail = 50.0 * (1.0 - LEVEL)
        low, high = np.percentile(drawn, [tail, 100.0 - tail])
        return Figure(float(value), float(low), float(high))


def _divide(top: Floats, bottom: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.divide(top, bottom), dtype=float)
