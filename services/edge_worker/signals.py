"""The names of the gate's signals and their thresholds without a calibration. No torch: settings use them."""

from __future__ import annotations

import enum


class Signal(enum.StrEnum):
    """What ``gate.uncertainty`` computes."""

    ONE_MINUS_MAX = "one_minus_max"
    ENTROPY = "entropy"
    MARGIN = "margin"
    TEMPERATURE_PERTURBATION = "temperature_perturbation"
    TEMPERATURE_PERTURBATION_SAMPLED = "temperature_perturbation_sampled"


class Importance(enum.StrEnum):
    """What ``gate.importance`` computes; ``NONE``: uncertainty alone decides."""

    NONE = "none"
    BINDING = "binding"
    RECEIVED = "received"


# Measured on the default pair: each flags the same share of tokens, and a third to two fifths of the tokens are judged.
SAFE_TAU = {
    Signal.ONE_MINUS_MAX: 0.57,
    Signal.ENTROPY: 0.22,
    Signal.MARGIN: 0.81,
    Signal.TEMPERATURE_PERTURBATION: 0.74,
    Signal.TEMPERATURE_PERTURBATION_SAMPLED: 0.74,
}
