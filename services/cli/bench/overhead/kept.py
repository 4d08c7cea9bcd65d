"""Draft steps for nothing: those of a real model, kept from the first time that an answer was written."""

from __future__ import annotations

import asyncio

from services.edge_worker.draft import Drafter, Step, StepRequest


class KeptSteps:
    """A ``Drafter`` for one session at a time that drafts nothing ahead: its steps then always come in the same order.
    ``free``: they are those that were kept."""

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter
        self._kept: dict[int, list[Step]] = {}
        self._answer = self._next = 0
        self.free = False

    def begin(self, answer: int) -> None:
        """The next session writes answer number ``answer``."""
        self._answer, self._next = answer, 0
        if not self.free:
            self._kept[answer] = []

    def acquire(self) -> int | None:
        return self._drafter.acquire()

    def release(self, slot: int) -> None:
        self._drafter.release(slot)

    async def step(self, request: StepRequest) -> Step:
        if not self.free:
            step = await self._drafter.step(request)
            self._kept[self._answer].append(step)
            return step
        await asyncio.sleep(0)
        self._next += 1
        return self._kept[self._answer][self._next - 1]
