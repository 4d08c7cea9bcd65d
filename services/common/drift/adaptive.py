"""How strict the gate has to be for the damage that is measured: adaptive conformal inference (Gibbs & Candes 2021). Pure.

After each answer the bound on ``gamma`` moves by ``step * (alpha - loss)``. At a bound of 0 every token is asked about and the
loss is 0, so the bound cannot stay below ``-step * LOSS_CLIP * (1 + answers under way)``, and without any assumption on the
answers to come the mean of ``T`` losses is at most ``alpha + (1 / step + LOSS_CLIP * (1 + answers under way)) / T``.
"""

from __future__ import annotations

from dataclasses import dataclass

MOST_GAMMA = 1.0  # the calibrated point: beyond it an answer has asked for no bound, and no edge follows a policy there


@dataclass
class AdaptiveBound:
    """``alpha``: the mean loss to hold. Starts at the calibrated point and never relaxes beyond it."""

    alpha: float
    step: float
    _value: float = MOST_GAMMA  # below 0 it is a debt: as many answers longer every token is asked about

    @property
    def gamma(self) -> float:
        """The largest ``gamma`` that a new answer may have, in [0, ``MOST_GAMMA``]."""
        return max(0.0, self._value)

    def add(self, loss: float) -> None:
        """The measured damage of an answer that was written inside the bound."""
        self._value = min(MOST_GAMMA, self._value + self.step * (self.alpha - loss))
