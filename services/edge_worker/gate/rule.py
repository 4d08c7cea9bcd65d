"""The rule: flag iff ``gamma = 0``, or ``u > gamma * tau_u`` and ``i > gamma * theta_i``. More ``gamma`` never flags more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.common import rng
from services.common.calibration.answer_level import AnswerRule
from services.edge_worker.gate.answer_level import AnswerLevel
from services.edge_worker.gate.importance import threshold
from services.edge_worker.signals import Importance, Signal


@dataclass(frozen=True)
class Gate:
    """``tau_u``: the calibrated threshold. ``random_rate``: flag at random at this rate instead (a baseline), ``None``: do
    not. ``theta_i`` is the ``quantile`` of the importance of the last ``window`` tokens. ``answer_level``: keeps whole answers
    local, by uncertainty alone."""

    signal: Signal
    tau_u: float
    random_rate: float | None = None
    importance: Importance = Importance.NONE
    quantile: float = 0.5
    window: int = 64
    answer_level: AnswerRule | None = None

    def __post_init__(self) -> None:
        if self.answer_level is not None and (self.random_rate is not None or self.importance is not Importance.NONE):
            raise ValueError("whole answers stay local by uncertainty alone: no importance, no random gating")

    def level(self, gamma: float, *, prompt_tokens: int) -> AnswerLevel:
        """A new answer's; at ``gamma`` 0 it asks from the start."""
        return AnswerLevel(self.answer_level, prompt_tokens=prompt_tokens, threshold=gamma * self.tau_u)

    def flag(self, u: float, gamma: float, *, seed: int, position: int, round_: int) -> bool:
        """Whether the token is asked about, as far as uncertainty goes."""
        if self.random_rate is not None:
            return rng.uniform(seed, position, round_, rng.Purpose.GATE) < self.random_rate
        return gamma == 0.0 or u > gamma * self.tau_u

    def important(self, i: float | None, gamma: float, history: Sequence[float]) -> bool:
        """Whether importance lets the token through. ``history``: importance of the tokens before it, oldest first. What is not
        known (``None``, or no history yet) counts as important."""
        theta = threshold(history, self.quantile, self.window)
        return gamma == 0.0 or i is None or theta is None or i > gamma * theta
