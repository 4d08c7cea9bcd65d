"""Verdicts for nothing: those of a real target, kept from the first time that an answer was written."""

from __future__ import annotations

import asyncio

from services.common.messages import Cancel, CandidateBatch, Open, Verdict
from services.edge_worker.verifier_client import Lost
from services.pair.judge import Judge


class Replay:
    """A ``VerifierClient`` for one session at a time. An answer's rounds follow from its seed alone, so its verdicts do."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._kept: dict[tuple[int, int, int], Verdict] = {}
        self._queue: asyncio.Queue[Verdict | Lost] = asyncio.Queue()
        self._answer = 0

    def begin(self, answer: int) -> None:
        """The next session writes answer number ``answer``."""
        self._answer = answer

    def verdicts(self, session: bytes) -> asyncio.Queue[Verdict | Lost]:
        self._queue = asyncio.Queue()
        return self._queue

    def release(self, session: bytes) -> None:
        self._judge.release(session)

    async def open(self, message: Open) -> int:
        if not any(answer == self._answer for answer, _, _ in self._kept):
            await self._judge.open(message)
        return self._judge.size(message)

    async def submit(self, message: CandidateBatch) -> int:
        key = self._answer, message.round, message.attempt
        kept = self._kept.get(key)
        if kept is None:
            heard = self._judge.verdicts(message.session)
            await self._judge.submit(message)
            event = await heard.get()
            if not isinstance(event, Verdict):
                raise RuntimeError("a judge in the same process loses nothing")
            kept = self._kept[key] = event
        self._queue.put_nowait(kept.model_copy(update={"session": message.session}))
        return self._judge.size(message)

    async def cancel(self, message: Cancel) -> int:
        return 0
