"""Read a running answer as pieces of text, and keep count of what was read."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator

from services.edge_worker.answer import Answer, Decision, TokenOut
from services.edge_worker.http.errors import outage
from services.edge_worker.http.text import AnswerText, Piece


class Reader:
    """Iterates over the batches of pieces that may be shown together."""

    def __init__(self, answer: Answer, text: AnswerText, end_ids: frozenset[int]) -> None:
        self._answer = answer
        self._tokens: AsyncIterator[TokenOut] = answer.__aiter__()
        self._text = text
        self._end_ids = end_ids
        self._last: int | None = None
        self._ended = False
        self.decisions: Counter[Decision] = Counter()

    async def next(self) -> list[Piece] | None:
        """The next batch, never empty; None at the end. Errors of the answer pass through."""
        while not self._ended:
            try:
                token = await anext(self._tokens)
            except StopAsyncIteration:
                self._ended = True
                break
            self._last = token.id
            self.decisions[token.decision] += 1
            pieces = self._text.feed(token)
            self._ended = self._text.stopped
            if pieces:
                return pieces
        return self._text.finish() or None

    async def close(self) -> None:
        """End the iteration, where it is a generator, before its answer is closed."""
        if isinstance(self._tokens, AsyncGenerator):
            await self._tokens.aclose()

    def rest(self) -> list[Piece]:
        """What is still held back when the answer broke off."""
        self._ended = True
        return self._text.finish()

    def finish_reason(self) -> str:
        """``stop`` or ``length``; an ``ApiError`` where the session loop ended the answer with an error."""
        if self._text.stopped:
            return "stop"
        stated = self._answer.stats.finish_reason
        if stated == "error":
            raise outage(self._answer.stats.degraded_reason or "the answer was broken off")
        return stated or ("stop" if self._last in self._end_ids else "length")
