"""Prompts into three disjoint parts, by a seed. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.calibrate.risk_control import LEAST_PROMPTS

LEAST_IN_ALL = 6
CALIBRATION_SHARE = 0.6


@dataclass(frozen=True)
class Split:
    """Indices of prompts: ``fit`` shapes line, predictor and grid; ``calibration`` chooses; ``evaluation`` only reports."""

    fit: tuple[int, ...]
    calibration: tuple[int, ...]
    evaluation: tuple[int, ...]


def split(prompts: int, seed: int) -> Split:
    """Three fifths calibrate, and at least 200 where there are that many; the rest is halved. Raises ``ValueError`` below 6."""
    if prompts < LEAST_IN_ALL:
        raise ValueError(f"{prompts} prompts: at least {LEAST_IN_ALL} are needed, and {LEAST_PROMPTS + 40} for a guarantee")
    wanted = max(round(CALIBRATION_SHARE * prompts), LEAST_PROMPTS)
    calibration = wanted if wanted <= prompts - 4 else round(CALIBRATION_SHARE * prompts)
    order = [int(i) for i in np.random.default_rng(seed).permutation(prompts)]
    fit = (prompts - calibration + 1) // 2
    return Split(
        tuple(sorted(order[:fit])),
        tuple(sorted(order[fit : fit + calibration])),
        tuple(sorted(order[fit + calibration :])),
    )
