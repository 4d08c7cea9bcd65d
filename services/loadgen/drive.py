"""The open loop: each request begins when it is due."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from services.loadgen.answer import Answer
from services.loadgen.arrivals import Arrival
from services.loadgen.sender import Sender


class Drive:
    """``answers`` has every request that was begun, in order of their begin; it may be read while the load runs."""

    def __init__(self, arrivals: Iterable[Arrival], sender: Sender, *, duration: float, drain_seconds: float) -> None:
        """``drain_seconds``: for answers that still run at the end; what outlasts it is broken off."""
        self.answers: list[Answer] = []
        self._arrivals, self._sender = arrivals, sender
        self._duration, self._drain = duration, drain_seconds
        self._tasks: set[asyncio.Task[None]] = set()
        self._begin = 0.0

    @property
    def now(self) -> float:
        """Seconds after the begin."""
        return asyncio.get_running_loop().time() - self._begin

    @property
    def running(self) -> int:
        return len(self._tasks)

    async def run(self, stop: asyncio.Event) -> bool:
        """To the end, or until ``stop``: then without draining. Whether it came to its end."""
        self._begin = asyncio.get_running_loop().time()
        try:
            for arrival in self._arrivals:
                if await self._stopped(stop, arrival.at):
                    return False
                self._start(arrival)
            if await self._stopped(stop, self._duration):
                return False
            await self._finish(stop)
            return not stop.is_set()
        finally:
            await self._break_off()

    async def _finish(self, stop: asyncio.Event) -> None:
        """Waits for the answers that run, but no longer than they may take, nor than until ``stop``."""
        stopping = asyncio.create_task(stop.wait())
        end = self.now + self._drain
        while self._tasks and not stop.is_set() and self.now < end:
            await asyncio.wait([*self._tasks, stopping], timeout=end - self.now, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()

    async def _stopped(self, stop: asyncio.Event, until: float) -> bool:
        """Waits until second ``until``, or for ``stop``."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), max(0.0, until - self.now))
        return stop.is_set()

    def _start(self, arrival: Arrival) -> None:
        answer = Answer.begin(arrival, self.now)
        task = asyncio.create_task(self._sender.send(answer, len(self.answers), lambda: self.now))
        self.answers.append(answer)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _break_off(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
