"""An ``Answerer`` that follows a script, to develop and test the HTTP API without models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from services.edge_worker.answer import Answer, AnswerRequest, AnswerStats, TokenOut


@dataclass
class Gate:
    """A point in a script where the answer waits for ``open``; ``reached`` is set when it does."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    reached: asyncio.Event = field(default_factory=asyncio.Event)


Step = TokenOut | Gate | Exception
Script = Sequence[Step]


class FakeAnswer:
    """Plays a script; ``closed`` is set by ``aclose``."""

    def __init__(self, script: Script, stats: AnswerStats) -> None:
        self.stats = stats
        self.closed = asyncio.Event()
        self.closes = 0
        self.finished = False
        self._script = script

    async def __aiter__(self) -> AsyncIterator[TokenOut]:
        for step in self._script:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, Gate):
                step.reached.set()
                await step.open.wait()
                continue
            name = step.decision.value
            setattr(self.stats, name, getattr(self.stats, name) + 1)
            yield step
        self.finished = True

    async def aclose(self) -> None:
        self.closes += 1
        self.closed.set()


class FakeAnswerer:
    """``play`` gives the script for a request; it may raise, as a busy answerer does. Keeps requests and answers."""

    def __init__(self, play: Callable[[AnswerRequest], Script], stats: Callable[[], AnswerStats] = AnswerStats) -> None:
        self.play = play
        self.stats = stats
        self.requests: list[AnswerRequest] = []
        self.answers: list[FakeAnswer] = []

    def answer(self, request: AnswerRequest) -> Answer:
        self.requests.append(request)
        answer = FakeAnswer(self.play(request), self.stats())
        self.answers.append(answer)
        return answer
