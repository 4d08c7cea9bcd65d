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


# Measured on the default pair: each flags the same share of drafted tokens; at 0.69, 0.63 and 0.57 of the first one 0.37, 0.42
# and 0.49 of some 1,400 answered tokens were judged, at a damage of 0.22, 0.17 and 0.14. A calibration bounds the damage.
SAFE_TAU = {
    Signal.ONE_MINUS_MAX: 0.69,
    Signal.ENTROPY: 0.29,
    Signal.MARGIN: 0.86,
    Signal.TEMPERATURE_PERTURBATION: 0.91,
    Signal.TEMPERATURE_PERTURBATION_SAMPLED: 0.91,
}
