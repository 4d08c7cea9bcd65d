"""Confidence limits of a mean that may be read at any time: by betting (Waudby-Smith & Ramdas 2023). Pure.

Against "the mean is at most m" a gambler puts a fixed fraction of the capital on the next loss being larger. Where it is not,
the capital is a nonnegative supermartingale, so the chance that it is ever multiplied by ``1 / delta`` is at most ``delta``
(Ville): no correction for looking after each answer. The capital is the mean of gamblers with different fractions. Losses need
not be independent: only ``E[loss | what went before] <= m`` is put to the test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from services.common.rng import Floats

FRACTIONS = np.array([0.01, 0.03, 0.1, 0.3, 0.5])[:, None]
FINEST, STEPS = 1e-3, 120  # limits are told on a grid of that many values from here to 1, a damage being no larger


@dataclass
class Limits:
    """Of losses in [0, ``most``]. ``delta``: chance that the lower limit is ever above the mean; likewise the upper, below.

    ``marks``: values (a bound to hold) that the grid must have.
    """

    most: float
    delta: float
    marks: Sequence[float] = ()
    count: int = 0
    total: float = 0.0
    _grid: Floats = field(init=False)
    _above: Floats = field(init=False)  # log capital of each gambler, by grid value, against "the mean is at most that"
    _below: Floats = field(init=False)

    def __post_init__(self) -> None:
        self._grid = np.union1d(np.geomspace(FINEST, 1.0, STEPS), np.array(self.marks, dtype=float))
        self._above = np.zeros((len(FRACTIONS), len(self._grid)))
        self._below = np.zeros_like(self._above)

    def add(self, loss: float) -> None:
        """Raises ``ValueError`` for a loss outside [0, ``most``]."""
        if not 0.0 <= loss <= self.most:
            raise ValueError(f"a loss of {loss:g} is outside [0, {self.most:g}]")
        self.count += 1
        self.total += loss
        self._above += np.log1p(FRACTIONS * (loss / self._grid - 1.0))
        span = np.maximum(self.most - self._grid, FINEST)
        self._below += np.log1p(FRACTIONS * np.maximum(-1.0, (self._grid - loss) / span))

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    @property
    def lower(self) -> float:
        """The largest value on the grid that the mean is above; 0 where there is none."""
        refuted = self._grid[self._capital(self._above) >= 1.0 / self.delta]
        return float(refuted[-1]) if len(refuted) else 0.0

    @property
    def upper(self) -> float:
        """The smallest value on the grid that the mean is below; 1 where there is none."""
        refuted = self._grid[self._capital(self._below) >= 1.0 / self.delta]
        return float(refuted[0]) if len(refuted) else 1.0

    @staticmethod
    def _capital(logs: Floats) -> Floats:
        capital: Floats = np.exp(np.minimum(logs, 600.0)).mean(axis=0)
        return capital
