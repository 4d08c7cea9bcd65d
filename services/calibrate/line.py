"""The papers' relation between uncertainty and rejection, and what they derive from it (U-HLM, arXiv 2412.12687). Pure.

``beta ~ a*u + b`` is fitted by least squares over tokens. The thresholds are the papers'; the bound is a usable form of
theirs, with the measured histogram of ``u`` for its density. It holds under the fitted line and independent tokens: it is not
distribution-free.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.common.rng import Floats


@dataclass(frozen=True)
class Line:
    """``a``, ``b``: the line; ``r``: Pearson's correlation with the rejection probability of the draft, ``r_expected``: with
    its expectation before the draft was drawn; ``disagreement``: the papers' Delta = P(y_d < x_d)."""

    a: float
    b: float
    r: float
    r_expected: float
    disagreement: float
    tokens: int

    @property
    def risk_averse(self) -> float | None:
        """``-b/a``: below it the line expects no rejection. ``None`` where the line does not rise."""
        return _unit(-self.b / self.a) if self.a > 0 else None

    @property
    def risk_prone(self) -> float | None:
        """``(Delta - b)/a``: up to it the line expects at most Delta rejections. ``None`` where the line does not rise."""
        return _unit((self.disagreement - self.b) / self.a) if self.a > 0 else None

    def bound(self, threshold: float, u: Floats) -> float:
        """The papers' risk bound ``R(u_th) = E[(a*U + b)^+ ; U <= u_th]`` over the recorded ``u``: damage per drafted token."""
        return float(np.where(u <= threshold, np.maximum(0.0, self.a * u + self.b), 0.0).mean())


def fit(u: Floats, rejection: Floats, expected: Floats) -> Line:
    """Least squares of ``rejection`` on ``u``; ``expected``: of the same tokens. Raises ``ValueError`` where fewer than three
    tokens, or tokens that are all alike, define no line."""
    if len(u) < 3 or float(np.ptp(u)) == 0.0:
        raise ValueError(f"{len(u)} tokens with one uncertainty define no line: record more prompts")
    du, dr = u - u.mean(), rejection - rejection.mean()
    a = float((du * dr).sum() / (du * du).sum())
    b = float(rejection.mean() - a * u.mean())
    return Line(a, b, pearson(u, rejection), pearson(u, expected), float((rejection > 0.0).mean()), len(u))


def pearson(a: Floats, b: Floats) -> float:
    """Correlation; 0 where one of them does not vary."""
    da, db = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((da * da).sum() * (db * db).sum()))
    return float((da * db).sum()) / spread if spread else 0.0


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value))
