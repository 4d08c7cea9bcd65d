"""Whether a whole answer may stay local: a fitted predictor of its damage, and how much damage is allowed. Pure numbers, numpy.

The predictor looks at the length of the prompt and at the gate's score of ``decide_tokens`` drafted tokens in a row, and gives
the mean rejection probability of these and the tokens after them, were they all kept. The limit is the damage that the gate's
ordinary rule does at the same threshold, so it falls to zero with it: one knob moves both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.common.calibration.predictor import CLIP, sigmoid
from services.common.rng import Floats

FEATURES = 4


class AnswerRule(BaseModel):
    """``centre``, ``scale``, ``weights``: of the features. ``knots_threshold``, ``knots_damage``: from the gate's threshold to
    the limit, both rising from 0. ``turn``: an answer that stays local goes back to asking above this multiple of the limit."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    decide_tokens: int = Field(ge=1, le=64)
    centre: tuple[float, ...] = Field(min_length=FEATURES, max_length=FEATURES)
    scale: tuple[float, ...] = Field(min_length=FEATURES, max_length=FEATURES)
    weights: tuple[float, ...] = Field(min_length=FEATURES, max_length=FEATURES)
    intercept: float
    knots_threshold: tuple[float, ...] = Field(min_length=2)
    knots_damage: tuple[float, ...]
    turn: float = Field(ge=1)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if min(self.scale) <= 0.0:
            raise ValueError("a scale is not positive")
        if len(self.knots_threshold) != len(self.knots_damage):
            raise ValueError("the knots differ in number")
        if self.knots_threshold[0] != 0.0 or self.knots_damage[0] != 0.0:
            raise ValueError("the knots must start at 0: a gate that asks about everything keeps no answer local")
        if (np.diff(self.knots_threshold) <= 0.0).any() or (np.diff(self.knots_damage) < 0.0).any():
            raise ValueError("the knots must rise")
        return self

    def limit(self, threshold: float) -> float:
        """The damage per token that an answer may be predicted to have; rises with the gate's ``threshold``."""
        return float(np.interp(threshold, self.knots_threshold, self.knots_damage))

    def predict(self, prompt_tokens: int, u: Sequence[float]) -> float:
        """The mean rejection probability in [0, 1] from ``decide_tokens`` scores ``u`` on, if nothing is asked."""
        standard = (features(prompt_tokens, u) - np.array(self.centre)) / np.array(self.scale)
        return float(sigmoid(standard @ np.array(self.weights) + self.intercept))


def features(prompt_tokens: int, u: Sequence[float]) -> Floats:
    """`[FEATURES]`: log of the prompt's length; log-odds of the mean of ``u``; mean and maximum of its log-odds."""
    values = np.clip(np.asarray(u, dtype=np.float64), CLIP, 1.0 - CLIP)
    odds = np.log(values / (1.0 - values))
    mean = float(values.mean())
    return np.array([np.log1p(prompt_tokens), np.log(mean / (1.0 - mean)), odds.mean(), odds.max()])
