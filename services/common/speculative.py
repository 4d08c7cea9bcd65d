"""Speculative sampling, in the notation of the papers (Leviathan et al. 2023; U-HLM, arXiv 2412.12687, section III).

``x`` draft distribution, ``d ~ x`` draft token, ``y`` target distribution at the same position.

    accept    d with probability min(1, y_d / x_d)
    residual  on rejection, a token of norm(max(0, y - x))
    bonus     after a fully accepted span, a token of y
    audit     max(0, 1 - y_d / x_d) of a skipped token: its expectation is the total variation that skipping costs there

``x`` is sparse and integer: counts of 2^16 over at most a few dozen ids, and the draft is drawn from those very counts.
Hence what the verifier judges is what the device did, whatever was cut off or rounded. Everything here is a pure function
of its arguments, without torch; ratios and residuals are float64 on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from services.common import rng
from services.common.rng import Floats, Ids, Purpose

TOTAL = 1 << 16
Row = npt.NDArray[np.float32]  # y over the whole vocabulary


@dataclass(frozen=True)
class Sparse:
    """A distribution over ``ids`` (distinct) with integer ``counts`` >= 1 that sum to 2^16."""

    ids: Ids
    counts: Ids

    @staticmethod
    def cut(ids: Ids, p: Floats, entries: int) -> Sparse:
        """The ``entries`` largest of ``p`` (probabilities of ``ids``), renormalised and rounded so that they sum to 2^16."""
        top = np.argsort(-p, kind="stable")[:entries]
        exact = p[top] / p[top].sum() * TOTAL
        counts = np.floor(exact).astype(np.int64)
        rest = np.argsort(counts - exact, kind="stable")[: TOTAL - int(counts.sum())]
        counts[rest] += 1
        return Sparse(ids[top][counts > 0], counts[counts > 0])

    @staticmethod
    def certain(token: int) -> Sparse:
        """All mass on one token: a greedy draft."""
        return Sparse(np.array([token]), np.array([TOTAL]))

    def of(self, token: int) -> float:
        """``x_d``; zero outside the support."""
        return float(self.counts[self.ids == token].sum()) / TOTAL

    def excess(self, y: Row) -> float:
        """``sum (x - y)^+``, the rejection probability of a draft that is yet to be drawn; ``y`` `[vocabulary]`."""
        return float(np.maximum(0.0, self.counts / TOTAL - y[self.ids]).sum())

    def sample(self, seed: int, position: int, round_: int) -> int:
        """``d ~ x``."""
        noise = rng.gumbel(seed, position, round_, self.ids)
        return int(self.ids[np.argmax(np.log(self.counts) + noise)])


@dataclass(frozen=True)
class SpanToken:
    """One token of a span: a candidate carries its ``x``; a skipped token only ``x_d``."""

    d: int
    x_d: float
    x: Sparse | None = None


@dataclass(frozen=True)
class Judged:
    """What became of a span: its first ``kept`` tokens stay, then ``token`` (a correction, a bonus or none) follows."""

    kept: int
    token: int | None
    corrected: bool
    audits: list[float] = field(default_factory=list)  # of the skipped tokens among those kept, in order


def rejection(y_d: float, x_d: float) -> float:
    """``beta = max(0, 1 - y_d / x_d)``: the probability that the target would have refused ``d``."""
    return max(0.0, 1.0 - y_d / x_d)


def residual(y: Row, x: Sparse, coin: float) -> int:
    """A token of ``norm(max(0, y - x))`` by inversion; of ``y`` itself where that has no mass."""
    rest = y.astype(np.float64)
    rest[x.ids] -= x.counts / TOTAL
    np.maximum(rest, 0.0, out=rest)
    if rest.sum() <= 0.0:
        rest = y.astype(np.float64)
    cumulative = np.cumsum(rest)
    return int(np.searchsorted(cumulative, coin * cumulative[-1], side="right").clip(0, len(y) - 1))


def bonus(y: Row, seed: int, position: int, round_: int) -> int:
    """A token of ``y``, with the noise that the next round's draft has at this position."""
    ids = np.flatnonzero(y)
    return int(ids[np.argmax(np.log(y[ids].astype(np.float64)) + rng.gumbel(seed, position, round_ + 1, ids))])


def judge(span: Sequence[SpanToken], y: Sequence[Row], *, seed: int, start: int, round_: int, want_bonus: bool) -> Judged:
    """Judge a span that begins at position ``start``: candidates are accepted or corrected in order, skipped tokens audited.

    ``y`` has a row for each token of the span and, if ``want_bonus``, one more. The first correction ends the span.
    """
    audits: list[float] = []
    for j, token in enumerate(span):
        y_d = float(y[j][token.d])
        refused = rejection(y_d, token.x_d)
        if token.x is None:
            audits.append(refused)
        elif rng.uniform(seed, start + j, round_, Purpose.ACCEPT) < refused:
            coin = rng.uniform(seed, start + j, round_, Purpose.RESIDUAL)
            return Judged(j, residual(y[j], token.x, coin), True, audits)
    if not want_bonus:
        return Judged(len(span), None, False, audits)
    return Judged(len(span), bonus(y[len(span)], seed, start + len(span), round_), False, audits)
