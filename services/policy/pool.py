"""The verifier pool as the controller understands it: load, utilisation, waiting and watts of one another. Pure.

A verifier takes everything that waits into one pass. With Poisson arrivals and passes of one length, its busy share follows
from ``load`` = rounds that arrive in the time of a pass: busy periods have ``exp(load)`` passes on average and idle ones last
one arrival, so ``utilisation = load e^load / (1 + load e^load)``. A pass grows by ``GROWTH`` for each further session in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

GROWTH = 0.15
MOST_LOAD = 8.0


def utilisation(load: float) -> float:
    """Busy share in [0, 1)."""
    busy = load * math.exp(min(load, 50.0))
    return busy / (1.0 + busy)


def load_of(busy_share: float) -> float:
    """The inverse of ``utilisation``, at most ``MOST_LOAD``."""
    if busy_share >= utilisation(MOST_LOAD):
        return MOST_LOAD
    low, high = 0.0, MOST_LOAD
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if utilisation(middle) < busy_share else (low, middle)
    return (low + high) / 2


def growth(load: float) -> float:
    """Of a pass, against one with a single session."""
    return 1.0 + GROWTH * (max(1.0, min(load, MOST_LOAD)) - 1.0)


@dataclass(frozen=True)
class Pool:
    """``pass_seconds``: of a pass at ``load`` (both measured); ``idle_watts``, ``busy_watts``: of one verifier. ``told``: share
    of its rounds that edges with whole inputs told of; the others are taken to be alike."""

    verifiers: float
    pass_seconds: float
    load: float
    idle_watts: float
    busy_watts: float
    told: float = 1.0

    def pass_at(self, load: float) -> float:
        return self.pass_seconds * growth(load) / growth(self.load)

    def load_from(self, rounds_per_second: float) -> float:
        """The load that so many rounds make: a fixed point, since longer passes take more rounds; at most ``MOST_LOAD``."""
        load = min(self.load, MOST_LOAD)
        for _ in range(30):
            load = min(MOST_LOAD, 0.5 * load + 0.5 * rounds_per_second * self.pass_at(load) / max(self.verifiers, 1e-9))
        return load

    def rounds_at(self, load: float) -> float:
        """Rounds a second that make ``load``."""
        return load * self.verifiers / max(self.pass_at(load), 1e-9)

    def waiting(self, load: float) -> float:
        """Mean seconds from arrival to the end of the pass."""
        return self.pass_at(load) * (1.0 + 0.5 * utilisation(load))

    def waiting_p95(self, load: float) -> float:
        """Nearly the longest: all of the pass that runs, and one's own."""
        return self.pass_at(load) * (1.0 + (0.95 if utilisation(load) > 0.1 else 0.0))

    def watts(self, load: float) -> float:
        return self.verifiers * (self.idle_watts + (self.busy_watts - self.idle_watts) * utilisation(load))
