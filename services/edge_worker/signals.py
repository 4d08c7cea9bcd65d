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


# Measured on the default pair: each flags the same share of drafted tokens; 0.42 of 1,474 answered tokens were judged (damage 0.17).
SAFE_TAU = {
    Signal.ONE_MINUS_MAX: 0.63,
    Signal.ENTROPY: 0.25,
    Signal.MARGIN: 0.79,
    Signal.TEMPERATURE_PERTURBATION: 0.78,
    Signal.TEMPERATURE_PERTURBATION_SAMPLED: 0.78,
}
