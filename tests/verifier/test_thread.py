"""The engine's thread: off the event loop, in order, and behind it where cores are short."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from services.verifier.thread import EngineThread

LOWER = """
import asyncio, os, threading
from services.verifier.thread import EngineThread, yield_to_event_loop

async def main():
    thread = EngineThread()
    native = await thread.run(threading.get_native_id)
    yield_to_event_loop(3)
    print(os.getpriority(os.PRIO_PROCESS, 0), os.getpriority(os.PRIO_PROCESS, native))
    thread.close()

asyncio.run(main())
"""


async def test_work_runs_in_order_on_one_other_thread() -> None:
    thread = EngineThread()
    seen: list[int] = []

    def work(n: int) -> int:
        seen.append(n)
        return threading.get_ident()

    names = await asyncio.gather(*(thread.run(lambda n=n: work(n)) for n in range(5)))  # type: ignore[misc]
    assert seen == [0, 1, 2, 3, 4]
    assert len(set(names)) == 1
    assert names[0] != threading.get_ident()
    thread.close()


async def test_an_error_reaches_who_waits_and_the_thread_goes_on() -> None:
    thread = EngineThread()
    with pytest.raises(ZeroDivisionError):
        await thread.run(lambda: 1 / 0)
    assert await thread.run(lambda: 7) == 7
    thread.close()


def test_the_event_loop_keeps_its_priority_and_the_engine_steps_back() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    done = subprocess.run([sys.executable, "-c", LOWER], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == [str(own), str(own + 3)]
