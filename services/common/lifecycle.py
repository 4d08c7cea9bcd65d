"""Life cycle of a service: stop signals, and waiting longer after each failed attempt."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import structlog


def stop_event() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets; call it inside the running loop."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, event.set)
    return event


def ignore_stop_signals() -> None:
    """For the very end, when nobody listens to the event any more: another SIGTERM must not turn a clean exit into a kill."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


class Phases:
    """The phases of an orderly stop inside ``budget`` seconds, each logged with its duration."""

    def __init__(self, budget: float) -> None:
        self._budget = budget
        self._began = time.monotonic()

    @property
    def left(self) -> float:
        """Seconds of the budget that remain; 0 once it is used up."""
        return max(0.0, self._began + self._budget - time.monotonic())

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            structlog.get_logger().info(
                "stopping", phase=name, seconds=round(time.monotonic() - began, 3), budget_left=round(self.left, 3)
            )


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


async def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether ``condition`` came to hold within ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.005)
    return True
