"""What the audits of one answer say of its damage: a Horvitz-Thompson estimate. Pure.

Rounds audit the skipped tokens before them for nothing: inclusion probability 1. The rest (local answers, trailing spans, spans
of an outage) is audited for a share ``rate`` of the answers, drawn before generation and weighted by its inverse. Without that
part the sum would be too small: spans that nobody asked about are skipped tokens too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LOSS_CLIP = 10.0
"""The most that one answer counts with in a mean. Its sampled part then counts with at most ``LOSS_CLIP * rate`` of damage (0.2
at a rate of 2 %): what it has above is missing in the mean, which is never too large for it."""


@dataclass
class Ledger:
    """Audits of one answer. ``rate``: probability of the draw, in [0, 1]; at 0 what rounds do not audit stays unknown."""

    rate: float = 1.0
    round_tokens: int = 0
    round_sum: float = 0.0
    sampled_tokens: int = 0
    sampled_sum: float = 0.0
    spared_tokens: int = 0  # that the draw left out: they count, with an audit of zero, where others weigh more

    def in_round(self, audits: Sequence[float]) -> None:
        """Audits, in [0, 1], of skipped tokens that stay and that a round has covered."""
        self.round_tokens += len(audits)
        self.round_sum += sum(audits)

    def sampled(self, audits: Sequence[float]) -> None:
        """Audits of skipped tokens that only the draw had covered."""
        self.sampled_tokens += len(audits)
        self.sampled_sum += sum(audits)

    def spared(self, tokens: int) -> None:
        """Skipped tokens that would have been audited, had the draw said so."""
        self.spared_tokens += tokens

    @property
    def audited(self) -> int:
        """Tokens whose audit is known."""
        return self.round_tokens + self.sampled_tokens

    @property
    def weighted_sum(self) -> float:
        """Unbiased for the sum of the audits of the answer's skipped tokens, if none of them is ``unaudited``."""
        return self.round_sum + (self.sampled_sum / self.rate if self.sampled_tokens else 0.0)

    def unaudited(self, skipped: int) -> int:
        """Of ``skipped`` tokens those that neither a round nor the draw covered: the estimate knows nothing of them."""
        return max(0, skipped - self.round_tokens - self.sampled_tokens - self.spared_tokens)

    def damage(self, answered: int) -> float:
        """Unbiased for the damage of an answer of ``answered`` tokens; one answer's may be far above 1."""
        return self.weighted_sum / answered if answered else 0.0

    def loss(self, answered: int) -> float:
        """``damage``, clipped at ``LOSS_CLIP`` for a mean over answers."""
        return min(LOSS_CLIP, self.damage(answered))
