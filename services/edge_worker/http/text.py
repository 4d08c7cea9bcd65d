"""The text of one answer as it grows: tokens in, whole pieces out, cut at a stop sequence."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from services.edge_worker.answer import TokenOut
from services.edge_worker.http.detokenise import Decoder
from services.edge_worker.http.stops import StopFinder


@dataclass(frozen=True)
class Piece:
    """One token and the text it adds. ``start`` is the position of that text in the answer, in characters.

    ``visible`` is false for a token of which nothing is shown: an end token, or one inside a stop sequence.
    """

    token: TokenOut
    text: str
    start: int
    visible: bool


class AnswerText:
    """Holds tokens back while their text could still become a stop sequence.

    A token is shown whole or not at all, but for the one that a stop sequence cuts. A token that completes no character
    is shown with the one that does.
    """

    def __init__(self, decoder: Decoder, stops: Sequence[str], hidden: frozenset[int]) -> None:
        self._decoder = decoder
        self._finder = StopFinder(stops)
        self._hidden = hidden
        self._held: deque[tuple[TokenOut, str, int]] = deque()
        self._length = 0

    @property
    def stopped(self) -> bool:
        """A stop sequence has come: nothing after it will be shown."""
        return self._finder.found is not None

    def feed(self, token: TokenOut) -> list[Piece]:
        """Take ``token``; return the pieces that may be shown now, in order."""
        text = self._decoder.step(token.id)
        self._held.append((token, text, self._length))
        self._length += len(text)
        self._finder.feed(text)
        if self.stopped:
            return self.finish()
        safe = self._finder.safe
        ready = 0
        for count, (_, held_text, start) in enumerate(self._held, start=1):
            if start + len(held_text) > safe:
                break
            if held_text:
                ready = count
        return [self._piece(*self._held.popleft()) for _ in range(ready)]

    def finish(self) -> list[Piece]:
        """The answer has ended: everything that is left, cut at the stop sequence if one came."""
        left = [self._piece(*entry) for entry in self._held]
        self._held.clear()
        return left

    def _piece(self, token: TokenOut, text: str, start: int) -> Piece:
        cut = self._finder.found
        shown = text if cut is None else text[: max(0, cut - start)]
        swallowed = cut is not None and start >= cut
        return Piece(token, shown, start, visible=token.id not in self._hidden and not swallowed)
