"""The running mean of the damage per answer against its bound. Pure.

Two estimates run at a time: one begins when the other has seen half a ``window`` of answers, and one that has seen a whole
window is dropped. So what is told rests on the last half to whole window: a change is not averaged away by what came before.
An estimate whose lower limit reaches ``alpha`` raises the alarm. While each answer's expected damage is at most ``alpha``, that
happens to an estimate with a chance of ``DELTA`` at most: less than once in ``WINDOW / (2 * DELTA)`` answers (50,000).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from services.common.drift.ledger import LOSS_CLIP
from services.common.drift.limits import Limits

WINDOW = 1000  # answers
DELTA = 0.01


class State(enum.StrEnum):
    """``drifted`` until the mean is back at ``alpha`` or below; without a bound there is nothing to drift from."""

    UNBOUNDED = "unbounded"
    INSIDE = "inside"
    DRIFTED = "drifted"


@dataclass(frozen=True)
class Reading:
    """Mean damage per answer with its limits, over the last ``answers``."""

    state: State
    damage: float
    lower: float
    upper: float
    answers: int


class Monitor:
    """``alpha``: the bound, or ``None``."""

    def __init__(self, alpha: float | None, *, window: int = WINDOW, delta: float = DELTA) -> None:
        self.alpha = alpha
        self.alarms = 0
        self._window, self._delta = window, delta
        self._running = [self._fresh()]
        self._told = self._running[0]
        self._state = State.UNBOUNDED if alpha is None else State.INSIDE

    def _fresh(self) -> Limits:
        return Limits(LOSS_CLIP, self._delta, () if self.alpha is None else (self.alpha,))

    def add(self, loss: float) -> None:
        """The next answer's damage, as ``Ledger.loss`` has it. Raises ``ValueError`` outside [0, ``LOSS_CLIP``]."""
        if self._running[0].count >= self._window:
            self._running.pop(0)
        if self._running[-1].count >= self._window // 2:
            self._running.append(self._fresh())
        for one in self._running:
            one.add(loss)
        self._told = max(self._running, key=lambda one: one.lower)
        left = self.alpha is not None and self._told.lower >= self.alpha
        if not left:
            self._told = self._running[0]
        if left and self._state is State.INSIDE:
            self._state = State.DRIFTED
            self.alarms += 1
        elif self.alpha is not None and not left and self._told.mean <= self.alpha:
            self._state = State.INSIDE

    def reading(self) -> Reading:
        """Of the longer estimate; of the one that is furthest above the bound, where one is."""
        told = self._told
        return Reading(self._state, told.mean, told.lower, told.upper, told.count)
