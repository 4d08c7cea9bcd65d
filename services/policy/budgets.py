"""The budgets and in which order they give way. Pure.

Where not all can be met, the later ones of ``PRIORITY`` give way first: the damage bound is a promise about the text, pool
budgets keep everybody else's answers coming, the device's energy is the owner's to spend.
"""

from __future__ import annotations

from dataclasses import dataclass

PRIORITY = ("damage", "utilisation", "watts", "round_trip", "energy")


@dataclass(frozen=True)
class Budgets:
    """``None``: no such budget. ``damage``: largest damage of an answered token; ``utilisation`` of the verifiers and
    ``watts`` of their pool; ``round_trip_seconds``: its 95th percentile; ``joules_per_token`` on the device. ``margin``: share
    of each that is kept free."""

    damage: float = 0.05
    utilisation: float | None = 0.8
    watts: float | None = None
    round_trip_seconds: float | None = None
    joules_per_token: float | None = None
    margin: float = 0.03

    def within(self, limit: float) -> float:
        """What is aimed at."""
        return limit * (1.0 - self.margin)
