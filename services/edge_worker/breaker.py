"""A circuit breaker: stop asking a dead pool, and probe it again. Pure: the caller brings the clock."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass, field


class State(enum.StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass
class Breaker:
    """Opens after ``failures`` lost rounds in a row, for ``pause_seconds`` (doubled at each failed probe up to
    ``pause_max_seconds``,
    with 20 % jitter); then one probe at a time decides."""

    failures: int = 2
    pause_seconds: float = 1.0
    pause_max_seconds: float = 15.0
    jitter: random.Random = field(default_factory=random.Random)
    state: State = State.CLOSED
    cause: str = ""
    _in_a_row: int = 0
    _pause: float = 0.0
    _until: float = 0.0
    _probing: bool = False

    def allow(self, now: float) -> bool:
        """Whether a round may be sent at ``now`` (monotonic seconds)."""
        if self.state is State.CLOSED:
            return True
        if self.state is State.OPEN and now >= self._until:
            self.state = State.HALF_OPEN
            self._probing = False
        if self.state is State.HALF_OPEN and not self._probing:
            self._probing = True
            return True
        return False

    def blocking(self, now: float) -> bool:
        """Whether it is open now; asking does not use up the probe."""
        return self.state is not State.CLOSED and now < self._until

    def success(self) -> None:
        """A verdict came in time."""
        self.state, self.cause = State.CLOSED, ""
        self._in_a_row, self._pause, self._probing = 0, 0.0, False

    def failure(self, now: float, cause: str) -> None:
        """A round was lost to ``cause``."""
        self._in_a_row += 1
        if self.state is State.CLOSED and self._in_a_row < self.failures:
            return
        self._pause = min(self.pause_max_seconds, self._pause * 2 if self._pause else self.pause_seconds)
        self.state, self.cause, self._probing = State.OPEN, cause, False
        self._until = now + self._pause * self.jitter.uniform(0.9, 1.1)

    def abandon(self) -> None:
        """The probe ended without an answer either way (its session was cancelled)."""
        self._probing = False
