"""A fitted predictor of the rejection probability, as plain numbers that numpy evaluates. Pure; no scikit-learn here.

Features are the log-odds of the uncertainty signals, standardised, and their products in pairs. A logistic model turns them
into a score, an isotonic step function (interpolated) turns the score into a probability. A thousandth of the score itself is
mixed in, so that no two scores are tied and any threshold can be met.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.common.rng import Floats

NAME = "calibrated"  # of this signal, beside the names of `Signal`
CLIP = 1e-6
TIE_BREAK = 1e-3


class Predictor(BaseModel):
    """``signals``: what it looks at, in order, with ``centre`` and ``scale`` of their log-odds; ``weights``: of the
    standardised features and then of their products; ``knots``: score to probability, both rising."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    signals: tuple[str, ...] = Field(min_length=1)
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float
    knots_score: tuple[float, ...] = Field(min_length=1)
    knots_rejection: tuple[float, ...]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        n = len(self.signals)
        if (len(self.centre), len(self.scale), len(self.weights)) != (n, n, n + n * (n + 1) // 2):
            raise ValueError(f"a predictor over {n} signals has other numbers of weights")
        if min(self.scale) <= 0.0:
            raise ValueError("a scale is not positive")
        if len(self.knots_score) != len(self.knots_rejection):
            raise ValueError("the knots differ in number")
        rising = all((np.diff(k) >= 0.0).all() for k in (self.knots_score, self.knots_rejection))
        if not rising or min(self.knots_rejection) < 0.0 or max(self.knots_rejection) > 1.0:
            raise ValueError("the knots must rise and stay in [0, 1]")
        return self

    def predict(self, signals: Mapping[str, Floats]) -> Floats:
        """Rejection probabilities in [0, 1], rising strictly with the logistic score. ``KeyError`` for a missing signal."""
        standard = (log_odds(self.signals, signals) - np.array(self.centre)) / np.array(self.scale)
        score = sigmoid(expand(standard) @ np.array(self.weights) + self.intercept)
        step = np.interp(score, self.knots_score, self.knots_rejection)
        out: Floats = (1.0 - TIE_BREAK) * step + TIE_BREAK * score
        return out

    def one(self, signals: Mapping[str, float]) -> float:
        """The same for one token."""
        return float(self.predict({name: np.array([signals[name]]) for name in self.signals})[0])


def log_odds(names: tuple[str, ...], signals: Mapping[str, Floats]) -> Floats:
    """`[tokens, signals]`."""
    values = np.clip(np.stack([signals[name] for name in names], axis=1), CLIP, 1.0 - CLIP)
    out: Floats = np.log(values / (1.0 - values))
    return out


def expand(standard: Floats) -> Floats:
    """The features and their products in pairs, squares included."""
    i, j = np.triu_indices(standard.shape[1])
    return np.concatenate([standard, standard[:, i] * standard[:, j]], axis=1)


def sigmoid(value: Floats) -> Floats:
    out: Floats = 0.5 * (1.0 + np.tanh(0.5 * value))
    return out


def damage_at(score: Floats, audit: Floats, share: float) -> float:
    """Damage per drafted token if the ``share`` with the lowest ``score`` is skipped. Tied tokens count with their mean."""
    _, group, size = np.unique(score, return_inverse=True, return_counts=True)
    mean = np.bincount(group, weights=audit) / size
    return float(mean[np.sort(group)[: round(share * len(score))]].sum() / len(score))
