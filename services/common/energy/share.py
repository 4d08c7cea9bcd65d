"""Sharing an amount without losing any of it. Pure.

Energy is counted in whole microjoules, so that parts add up to their whole exactly, in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

MICRO = 1_000_000


def shares(total: int, weights: Sequence[float]) -> list[int]:
    """``total`` in parts as ``weights`` (none negative), which sum to ``total`` exactly; each is less than one away from its
    exact part. Without any weight the parts are equal. Raises ``ValueError`` where there is nobody to share ``total`` or a
    weight cannot be."""
    if any(not 0.0 <= w < float("inf") for w in weights):
        raise ValueError("a weight must be finite and not negative")
    if not weights:
        if total:
            raise ValueError("nobody to share with")
        return []
    exact = [Fraction(w) for w in weights] if any(weights) else [Fraction(1)] * len(weights)
    whole, out, before, reached = sum(exact), [], 0, Fraction(0)
    for weight in exact:
        reached += weight
        upto = round(total * reached / whole)
        out.append(upto - before)
        before = upto
    return out


def micro(joules: float) -> int:
    """Whole microjoules."""
    return round(joules * MICRO)
