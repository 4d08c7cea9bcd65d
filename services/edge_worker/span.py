"""Drafted tokens and where an upload ends. Pure.

A round boundary depends on the tokens (and their signals) alone, never on time, so that a client's ``seed`` reproduces the
answer.

A span is no longer than ``MAX_SPAN_TOKENS``. Skipped tokens that no candidate follows are not sent, however many they are. Once
one follows, those that do not fit into its upload go ahead of it, in rounds without a candidate: the large model has to process
them anyway, so their audits are free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.codec import MAX_SPAN_TOKENS
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
    """When to upload. ``k`` flagged tokens; ``span_tokens`` in all (``MAX_SPAN_TOKENS`` at most); ``wait_tokens`` after the
    first candidate; ``risk``: the estimated probability that at least one candidate of the span is refused."""

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
            if first is None and i >= MAX_SPAN_TOKENS:
                return MAX_SPAN_TOKENS
            first = i if first is None else first
            survival *= 1.0 - token.u
        flagged += token.flagged
        if first is None:
            continue
        full = flagged >= limits.k or i + 1 >= limits.span_tokens or i - first >= limits.wait_tokens
        if full or 1.0 - survival >= limits.risk:
            return i + 1
    return len(pending) if ended and first is not None else None


def due(pending: Sequence[Drafted], limits: Limits) -> int:
    """How many uploads ``pending`` holds in full: the round that what is drafted next belongs to is that many later."""
    count = 0
    while (n := cut(pending, limits, ended=False)) is not None:
        pending, count = pending[n:], count + 1
    return count


def asks(span: Sequence[Drafted]) -> bool:
    """Whether there is a candidate in it."""
    return any(t.judged for t in span)
