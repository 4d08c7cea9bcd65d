"""What a service's metrics do beside its work: the probe of the event loop, what is looked at each second, and scrapes."""

from __future__ import annotations

import asyncio
import http.client
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.common.telemetry import Telemetry

SCRAPE_SECONDS = 5.0  # as shipped, for the series of the control loop
LOOK_SECONDS = 1.0


@dataclass
class _Due:
    """``left``: seconds of metered time until it happens again."""

    every: float
    work: Callable[[], Awaitable[object]]
    left: float


class Beside:
    """``look``: what the service does each second. The clock of both stands still between metered blocks."""

    def __init__(self, telemetry: Telemetry, look: Callable[[], Awaitable[object]]) -> None:
        self._telemetry = telemetry
        self._port = 0
        self._due = [_Due(LOOK_SECONDS, look, LOOK_SECONDS), _Due(SCRAPE_SECONDS, self._scrape, SCRAPE_SECONDS)]
        self.scrapes = 0
        self.scraped_bytes = 0

    async def start(self) -> None:
        self._port = await self._telemetry.serve("127.0.0.1", 0)

    async def close(self) -> None:
        await self._telemetry.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While a metered block runs."""
        tasks = [asyncio.create_task(self._telemetry.lag.run()), asyncio.create_task(self._run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            started = time.monotonic()
            try:
                await asyncio.sleep(min(due.left for due in self._due))
            finally:
                passed = time.monotonic() - started
                for due in self._due:
                    due.left -= passed
            for due in self._due:
                if due.left <= 0:
                    due.left += due.every
                    await due.work()

    async def _scrape(self) -> None:
        self.scraped_bytes = await asyncio.to_thread(self._fetch)
        self.scrapes += 1

    def _fetch(self) -> int:
        """The asking side is in this process too, and counted."""
        link = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        link.request("GET", "/metrics")
        return len(link.getresponse().read())


async def idle_share(telemetry: Telemetry, seconds: float) -> float:
    """Processor time of the probe of an idle event loop, as a share of the time that goes by."""
    alone = await _spent(seconds)
    task = asyncio.create_task(telemetry.lag.run())
    with_probe = await _spent(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return max(0.0, with_probe - alone) / seconds


async def _spent(seconds: float) -> float:
    before = time.process_time()
    await asyncio.sleep(seconds)
    return time.process_time() - before
