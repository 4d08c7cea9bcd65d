"""Drafted tokens and where an upload ends. Pure.

A round boundary depends on the tokens (and their signals) alone, never on time, so that a client's ``seed`` reproduces the
answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.speculative import SpanToken, Sparse


@dataclass(frozen=True)
class Drafted:
    """One drafted token ``d`` with the distribution it was drawn from and what the gate said.

    ``decided``: the gate has spoken; where importance comes one step late, the last token may still wait for it.
    """

    d: int
    x: Sparse
    x_d: float
    u: float
    flagged: bool
    judged: bool  # it travels as a candidate: flagged, or any token in lossless mode
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    i: float | None = None  # importance, once known
    decided: bool = True

    def on_wire(self) -> SpanToken:
        return SpanToken(self.d, self.x_d, self.x if self.judged else None)


@dataclass(frozen=True)
class Limits:
    """When to upload. ``k`` flagged tokens; ``span_tokens`` in all; ``wait_tokens`` after the first candidate; ``risk``: the
    estimated probability that at least one candidate of the span is refused."""

    k: int
    span_tokens: int
    wait_tokens: int
    risk: float


def cut(pending: Sequence[Drafted], limits: Limits, *, ended: bool) -> int | None:
    """How many tokens of ``pending`` the next upload takes; ``None``: not yet. ``ended``: nothing will be drafted after
    them."""
    flagged = 0
    survival = 1.0
    first: int | None = None
    for i, token in enumerate(pending):
        if not token.decided:
            return None
        if token.judged:
            first = i if first is None else first
            survival *= 1.0 - token.u
        flagged += token.flagged
        if first is None:
            continue
        full = flagged >= limits.k or i + 1 >= limits.span_tokens or i - first >= limits.wait_tokens
        if full or 1.0 - survival >= limits.risk:
            return i + 1
    return len(pending) if ended and first is not None else None
