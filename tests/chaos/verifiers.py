"""Verifiers as their operator runs them, with the synthetic target: to be scaled, stopped and killed."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import httpx
import psutil

from tests.chaos.children import Child, Children

READY_SECONDS = 90.0
POLL_SECONDS = 0.05
WATCH_SECONDS = 0.002


class Verifier:
    """One process; ``trace`` says what its engine is doing (see ``services.verifier.synthetic``)."""

    def __init__(self, child: Child, trace: Path, http: httpx.AsyncClient) -> None:
        self.child, self._trace, self._http = child, trace, http
        self._port: int | None = None

    @property
    def alive(self) -> bool:
        return self.child.code is None

    def doing(self) -> str:
        """The last line of the trace: ``verify N`` or ``prefill N`` while a pass over N sessions runs, else ``end``."""
        if not self._trace.exists():
            return ""
        with self._trace.open("rb") as file:
            file.seek(max(0, self._trace.stat().st_size - 64))
            lines = file.read().decode().split("\n")
        return lines[-2] if len(lines) > 1 else ""

    async def ready(self) -> bool:
        page = await self._get("/readyz")
        return page is not None and page.status_code == httpx.codes.OK

    async def metrics(self) -> Counter[str]:
        """Sample name with its labels, and without them summed, to value; empty where it does not answer."""
        page = await self._get("/metrics")
        found: Counter[str] = Counter()
        for line in page.text.splitlines() if page is not None else []:
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                found[name] += float(value)  # type: ignore[assignment]  # counts of a metric may be fractions
                if "{" in name:
                    found[name.split("{")[0]] += float(value)  # type: ignore[assignment]
        return found

    def memory_mb(self) -> float:
        return psutil.Process(self.child.pid).memory_info().rss / 2**20

    def connections(self) -> int:
        return len(psutil.Process(self.child.pid).net_connections("tcp"))

    async def _get(self, path: str) -> httpx.Response | None:
        port = self._find_port()
        if port is None:
            return None
        try:
            return await self._http.get(f"http://127.0.0.1:{port}{path}")
        except httpx.TransportError:
            return None

    def _find_port(self) -> int | None:
        if self._port is None:
            for line in self.child.said().splitlines():
                if '"metrics and health"' in line:
                    self._port = json.loads(line)["port"]
        return self._port


class Pool:
    """``settings``: environment of each verifier; ``partitions`` of the topic that they share."""

    def __init__(self, children: Children, settings: Mapping[str, str], partitions: int) -> None:
        self._children, self._settings, self._partitions = children, settings, partitions
        self._http = httpx.AsyncClient(timeout=5.0, trust_env=False)
        self.members: list[Verifier] = []
        self.crashes = 0  # members that ended although nobody asked them to

    async def close(self) -> None:
        for member in self.members:  # in order, so that the group knows at once
            member.child.signal(signal.SIGTERM)
        await asyncio.gather(*(m.child.ended() for m in self.members), return_exceptions=True)
        for member in list(self.members):
            self._bury(member)
        await self._http.aclose()

    def start(self) -> Verifier:
        trace = self._children.folder / f"{self._children.started + 1}-trace"
        environment = {**self._settings, "SLUICE_VERIFIER_SYNTHETIC_TRACE": str(trace)}
        command = [sys.executable, "-m", "services.verifier"]
        child = self._children.start(command, environment, "verifier.log")
        member = Verifier(child, trace, self._http)
        self.members.append(member)
        return member

    async def settled(self) -> None:
        """Returns when every member is ready and they share all partitions, each with at least one."""
        async with asyncio.timeout(READY_SECONDS):
            while not await self._is_settled():  # noqa: ASYNC110 - other processes
                await asyncio.sleep(POLL_SECONDS)

    async def grow(self, members: int) -> None:
        while len(self.members) < members:
            self.start()
        await self.settled()

    async def busy(self, draw: random.Random | None = None, seconds: float = 30.0) -> Verifier:
        """A member (any, or the first) whose engine runs a pass over spans now."""
        async with asyncio.timeout(seconds):
            while True:
                found = [m for m in self.members if m.doing().startswith("verify")]
                if found:
                    return draw.choice(found) if draw is not None else found[0]
                await asyncio.sleep(WATCH_SECONDS)

    async def kill_in_a_batch(self, draw: random.Random, seconds: float = 30.0) -> bool:
        """SIGKILL to a member whose engine runs a pass over spans; whether it was still in that pass when it died."""
        victim = await self.busy(draw, seconds)
        victim.child.signal(signal.SIGKILL)
        await victim.child.ended()
        hit = victim.doing().startswith("verify")
        self._bury(victim)
        return hit

    def kill(self, member: Verifier) -> None:
        self._bury(member)

    async def terminate(self, member: Verifier, seconds: float) -> tuple[int, float]:
        """SIGTERM; exit code and the seconds it took."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        member.child.signal(signal.SIGTERM)
        code = await member.child.ended(seconds)
        self._bury(member)
        return code, loop.time() - begun

    async def totals(self) -> Counter[str]:
        """Metrics of all members, summed."""
        total: Counter[str] = Counter()
        for page in await asyncio.gather(*(m.metrics() for m in self.members)):
            total.update(page)
        return total

    def count_crashes(self) -> int:
        """All so far; those that have crashed are replaced by nobody."""
        for member in [m for m in self.members if not m.alive]:
            self.crashes += 1
            self._bury(member)
        return self.crashes

    def _bury(self, member: Verifier) -> None:
        self._children.forget(member.child)
        self.members.remove(member)

    async def _is_settled(self) -> bool:
        for member in self.members:
            assert member.alive, member.child.said()[-3000:]
        if not all(await asyncio.gather(*(m.ready() for m in self.members))):
            return False
        pages = await asyncio.gather(*(m.metrics() for m in self.members))
        owned = [page["sluice_partitions"] for page in pages]
        return sum(owned) == self._partitions and min(owned) > 0
