"""Which threshold gives a wanted damage. Pure.

Skipping everything once, with one audit at the end, yields a pair (uncertainty, audit) for each token. Their running sum
is the damage that
each threshold would do on that text. Another threshold writes another text, so the curve is only a guess that measured
runs correct.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Pair = tuple[float, float]  # uncertainty, audit


@dataclass(frozen=True)
class Curve:
    """Damage per answered token as a function of the threshold, from ``pairs`` over ``tokens`` answered tokens."""

    pairs: tuple[Pair, ...]
    tokens: int

    @staticmethod
    def of(pairs: Sequence[Pair], tokens: int) -> Curve:
        return Curve(tuple(sorted(pairs)), tokens)

    def damage(self, threshold: float) -> float:
        return sum(audit for u, audit in self.pairs if u <= threshold) / self.tokens

    def threshold(self, damage: float) -> float:
        """The largest threshold whose damage on this text is at most ``damage``."""
        total, best = 0.0, 0.0
        for u, audit in self.pairs:
            total += audit / self.tokens
            if total > damage:
                return best
            best = u
        return 1.0


def corrected(curve: Curve, wanted: float, threshold: float, measured: float) -> float:
    """A better threshold, after a run at ``threshold`` did ``measured`` damage instead of ``wanted``."""
    guess = curve.damage(threshold)
    if measured <= 0.0 or guess <= 0.0:
        return curve.threshold(wanted * 2)
    return curve.threshold(wanted * min(3.0, max(1 / 3, guess / measured)))
