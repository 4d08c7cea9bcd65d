"""Find stop sequences in a text that grows."""

from __future__ import annotations

from collections.abc import Sequence


class StopFinder:
    """Feed text; learn how much of it can no longer be part of a stop sequence.

    Positions count characters since the start. ``found`` is where the earliest match begins (of two matches that begin
    together both cut at the same place). A match is reported with the first character that completes any of them, as a
    reader of the stream would see it.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if any(not stop for stop in stops):
            raise ValueError("a stop sequence is empty")
        self._stops = tuple(stops)
        self._longest = max((len(stop) for stop in stops), default=0)
        self._tail = ""
        self._tail_start = 0
        self.found: int | None = None

    @property
    def safe(self) -> int:
        """Everything before this position may be shown."""
        if self.found is not None:
            return self.found
        for start in range(len(self._tail)):
            rest = self._tail[start:]
            if any(stop.startswith(rest) for stop in self._stops):
                return self._tail_start + start
        return self._tail_start + len(self._tail)

    def feed(self, text: str) -> None:
        """Take the next ``text``; ignored once a stop sequence is found."""
        if self.found is not None or not self._stops:
            self._tail_start += len(text) if self.found is None else 0
            return
        window = self._tail + text
        hits = [(at + len(stop), at) for stop in self._stops if (at := window.find(stop)) >= 0]
        if hits:
            # the earliest end is the match that a reader of single characters meets first; among those the longest
            self.found = self._tail_start + min(hits)[1]
            return
        keep = min(len(window), self._longest - 1)
        self._tail_start += len(window) - keep
        self._tail = window[len(window) - keep :]
