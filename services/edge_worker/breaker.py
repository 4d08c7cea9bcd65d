"""A circuit breaker: stop asking a dead pool, and probe it again. Pure: the caller brings the clock."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass, field


class State(enum.StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, eq=False)
class Permit:
    """One round may be sent. It goes back with ``success``, ``failure`` or ``abandon``."""


@dataclass
class Breaker:
    """Opens after ``failures`` lost rounds in a row, for ``pause_seconds`` (doubled at each failed probe up to
    ``pause_max_seconds``, with 20 % jitter); then one probe at a time decides. ``on_change`` is told of each new state."""

    failures: int = 2
    pause_seconds: float = 1.0
    pause_max_seconds: float = 15.0
    jitter: random.Random = field(default_factory=random.Random)
    state: State = State.CLOSED
    cause: str = ""  # of the last opening, while it is not closed
    on_change: Callable[[State, str], None] = lambda state, cause: None
    _in_a_row: int = 0
    _pause: float = 0.0
    _until: float = 0.0
    _probe: Permit | None = None

    def admit(self, now: float) -> Permit | None:
        """Leave to send a round at ``now`` (monotonic seconds), or None."""
        if self.state is State.CLOSED:
            return Permit()
        if self.state is State.OPEN and now >= self._until:
            self._go(State.HALF_OPEN)
        if self.state is State.HALF_OPEN and self._probe is None:
            self._probe = Permit()
            return self._probe
        return None

    def blocking(self, now: float) -> bool:
        """Whether ``admit`` would refuse now; asking does not use up the probe."""
        return (self.state is State.OPEN and now < self._until) or self._probe is not None

    def success(self) -> None:
        """A verdict came in time, whoever had asked for it."""
        self._in_a_row, self._pause, self._probe, self.cause = 0, 0.0, None, ""
        if self.state is not State.CLOSED:
            self._go(State.CLOSED)

    def failure(self, now: float, cause: str, permit: Permit | None = None) -> None:
        """A round was lost to ``cause``. While it is not closed only the probe's counts: others were sent before."""
        if self.state is State.CLOSED:
            self._in_a_row += 1
            if self._in_a_row >= self.failures:
                self._open(now, cause, self.pause_seconds)
        elif permit is not None and permit is self._probe:
            self._open(now, cause, min(self.pause_max_seconds, self._pause * 2))

    def abandon(self, permit: Permit | None) -> None:
        """The round ended without an answer either way (its session was cancelled)."""
        if permit is not None and permit is self._probe:
            self._probe = None

    def _open(self, now: float, cause: str, pause: float) -> None:
        self._pause, self.cause, self._probe = pause, cause, None
        self._until = now + pause * self.jitter.uniform(0.9, 1.1)
        self._go(State.OPEN)

    def _go(self, state: State) -> None:
        self.state = state
        self.on_change(state, self.cause)
