"""Requests of several answers that are written at once, run together on one thread. Knows nothing of models.

A pass over many rows costs little more than one over a single row, so nothing runs before every answer waits. Then the kind
with more requests goes. What shares a pass depends on the answers alone, never on time, so a run repeats exactly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

Run = Callable[[Sequence[Any]], Sequence[Any]]  # requests to results, in order, on the thread


@dataclass
class _Asked:
    row: int
    request: Any
    future: asyncio.Future[Any] = field(default_factory=asyncio.Future)


class Gather:
    """``runs`` by kind, in order of preference where two kinds have as many requests."""

    def __init__(self, runs: Mapping[str, Run]) -> None:
        self._runs = dict(runs)
        self._asked: dict[str, list[_Asked]] = {kind: [] for kind in runs}
        self._active: set[int] = set()
        self._running: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pair")

    @contextmanager
    def writing(self, row: int) -> Iterator[None]:
        """While ``row`` writes an answer, the others wait for its requests."""
        self._active.add(row)
        try:
            yield
        finally:
            self._active.discard(row)
            self._look()

    async def ask(self, kind: str, row: int, request: Any) -> Any:
        """The result of one request; raises what its run raised."""
        asked = _Asked(row, request)
        self._asked[kind].append(asked)
        self._look()
        return await asked.future

    def close(self) -> None:
        self._thread.shutdown(wait=True)

    def _look(self) -> None:
        if self._running is not None:
            return
        for asked in self._asked.values():
            asked[:] = [a for a in asked if not a.future.done()]  # a cancelled answer asks for nothing
        waiting = {a.row for asked in self._asked.values() for a in asked}
        if waiting and waiting >= self._active:
            self._running = asyncio.create_task(self._run(max(self._asked, key=lambda kind: len(self._asked[kind]))))

    async def _run(self, kind: str) -> None:
        taken, self._asked[kind] = self._asked[kind], []
        requests = [a.request for a in taken]
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._thread, self._runs[kind], requests)
        except Exception as error:  # noqa: BLE001  each of those who asked raises it
            for a in taken:
                if not a.future.done():
                    a.future.set_exception(error)
        else:
            for a, result in zip(taken, results, strict=True):
                if not a.future.done():
                    a.future.set_result(result)
        finally:
            self._running = None
            # those just served ask again before anything else runs
            asyncio.get_running_loop().call_soon(self._look)
