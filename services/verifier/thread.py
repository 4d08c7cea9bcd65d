"""The one thread that runs the target model, beside the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from services.common.progress import Progress

T = TypeVar("T")
_Work = tuple[Callable[[], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class EngineThread:
    """Runs functions one after the other on a daemon thread.

    A daemon, because a model that is being loaded must not hold up the end of the process.
    """

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._progress = Progress()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[], T]) -> T:
        """``work()``, called on the thread."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._progress.asked()
        self._work.put((work, loop, future))
        return await future

    def stalled(self) -> float:
        """Seconds since something was last finished, while there is something to do; else 0."""
        return self._progress.stalled()

    def close(self) -> None:
        """The thread ends after the work at hand."""
        self._work.put(None)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            work, loop, future = item
            try:
                result, error = work(), None
            except BaseException as raised:  # noqa: BLE001 - handed over to whoever awaits it
                result, error = None, raised
            self._progress.done()
            try:
                loop.call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:
                return  # the loop has been closed: nobody waits any more


def yield_to_event_loop(niceness: int) -> None:
    """Add ``niceness`` (0-19) to every thread but the main one: where cores are short, the event loop goes first.

    Called once the model is loaded: then the workers of OpenMP exist, and loading itself has not been slowed down. Linux
    only; elsewhere threads have no priorities of their own and nothing happens.
    """
    tasks = Path("/proc/self/task")
    if not niceness or not tasks.is_dir():
        return
    main = threading.main_thread().native_id
    for task in tasks.iterdir():
        thread = int(task.name)
        if thread != main:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + niceness)


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
