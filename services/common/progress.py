"""Whether somebody who works for others gets on. May be asked from any thread."""

from __future__ import annotations

import time


class Progress:
    """Counts what was asked for and what is done."""

    def __init__(self) -> None:
        self._asked = self._done = 0
        self._last = time.monotonic()

    def asked(self) -> None:
        if self._asked == self._done:
            self._last = time.monotonic()
        self._asked += 1

    def beat(self) -> None:
        """A part of something is done."""
        self._last = time.monotonic()

    def done(self) -> None:
        self._done += 1
        self.beat()

    def stalled(self) -> float:
        """Seconds since something was last done, while there is something to do; else 0."""
        return time.monotonic() - self._last if self._asked != self._done else 0.0
