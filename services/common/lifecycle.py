"""Life cycle of a service: stop signals, and waiting longer after each failed attempt."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Coroutine
from typing import Any


def stop_event() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets; call it inside the running loop."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, event.set)
    return event


class Backoff:
    """Seconds to wait before the next attempt: doubled each time up to ``longest``, with jitter of a half."""

    def __init__(self, first: float = 0.1, longest: float = 3.0) -> None:
        self.first, self.longest = first, longest
        self._next = first

    def reset(self) -> None:
        self._next = self.first

    def next(self) -> float:
        wait = self._next * random.uniform(0.5, 1.0)
        self._next = min(self.longest, self._next * 2)
        return wait

    async def sleep(self) -> None:
        await asyncio.sleep(self.next())


async def settled(work: Coroutine[Any, Any, Any], seconds: float) -> BaseException | None:
    """``work`` for at most ``seconds``; returns what it raised (``TimeoutError`` if it took longer), raises nothing itself.

    For closing a client whose other side may be gone: aiokafka's ``stop`` then lets a ``CancelledError`` of its own through.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    finally:
        task.cancel()
    outcome = (await asyncio.gather(task, return_exceptions=True))[0]
    if not done:
        return TimeoutError(f"not done after {seconds} s")
    return outcome if isinstance(outcome, BaseException) else None
