"""Minutes of load with faults at random from a seed: nothing leaks."""

from __future__ import annotations

import asyncio
import gc
import random
import signal
import statistics
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import psutil
from redis.asyncio import Redis

from tests.chaos.evidence import behind
from tests.chaos.fleet import Habits, Written, memory_mb
from tests.chaos.scaling import endless
from tests.chaos.site import Site
from tests.chaos.verifiers import Pool, Verifier

VERIFIERS = 3
DEADLINE_SECONDS = 2.0
DRAFT_SECONDS = 0.08
FREEZE_SECONDS = 3.0  # above the session timeout: who is thawed is a zombie
CALM_SECONDS = (1.0, 5.0)  # between two faults
SLOTS = 16  # fewer than answers at a time: eviction is part of it
MEMORY_MB = 8.0  # of growth from the first to the last quarter that is still flat
# glibc keeps what has been freed, in several arenas, and gives it back late: that hides a leak, or looks like one.
ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "65536"}
REDIS_CONNECTIONS = 8  # of a verifier at most; it opens them as it needs them
HANDLES = REDIS_CONNECTIONS + 4  # more files and connections at the end than at the start that are no leak
SETTLE_SECONDS = 5.0


@dataclass(frozen=True)
class SoakScale:
    seconds: float
    devices: int
    answers: int
    seed: int = 5


@dataclass
class SoakFigures:
    """``leaks``: what has been found, a line each. Memory in MB, each the median of a quarter of the time."""

    seconds: float
    answers: int
    answers_failed: int
    unverified_share: float
    faults: dict[str, int]
    fleet_mb: list[float]
    verifier_mb: list[float]
    handles: list[int]
    partitions_behind: list[int]
    crashes: int
    leaks: list[str] = field(default_factory=list)


@dataclass
class _Account:
    """Answers counted, not kept: the test itself must not grow."""

    answers: int = 0
    failed: int = 0
    tokens: int = 0
    unverified: int = 0

    def add(self, written: Written) -> None:
        self.answers += 1
        self.failed += not written.complete
        self.tokens += len(written.ids)
        self.unverified += written.unverified


async def run(site: Site, scale: SoakScale) -> SoakFigures:
    """One verifier, the veteran, is frozen but never killed: its memory and handles are watched all the time."""
    clock = asyncio.get_running_loop().time
    tasks = len(asyncio.all_tasks())
    draw, account, faults = random.Random(scale.seed), _Account(), Counter[str]()
    async with (
        site.redis.client() as redis,
        _pool(site) as pool,
    ):
        await pool.grow(VERIFIERS)
        veteran = pool.members[0]
        habits = Habits(deadline=DEADLINE_SECONDS, draft=DRAFT_SECONDS)
        async with site.fleet("soak", scale.devices, habits) as fleet:
            fleet.keep = account.add
            load = asyncio.create_task(fleet.keep_writing(scale.answers, endless(32, scale.seed)))
            sampling = asyncio.create_task(_sample(veteran, samples := _Samples()))
            end = clock() + scale.seconds
            while clock() < end:
                fault = draw.choice(_FAULTS)
                faults[fault.__name__.strip("_")] += 1
                await fault(site, pool, veteran, draw)
                await asyncio.sleep(draw.uniform(*CALM_SECONDS))
                await pool.grow(VERIFIERS)
                site.say(f"soak: {max(0, end - clock()):.0f} s left, {account.answers} answers, {sum(faults.values())} faults")
            load.cancel()
            sampling.cancel()
            await asyncio.gather(load, sampling, return_exceptions=True)
            await fleet.finish()
            leaks = [f"{d.name}: {d.leaks} draft slots or queues" for d in fleet.devices if d.leaks]
        late = await behind(site.broker.bootstrap)
        crashes = pool.count_crashes()
        leaks += await _left_in_verifiers(pool, veteran, samples) + await _left_in_redis(redis, pool)
    leaks += samples.growth()
    await asyncio.sleep(SETTLE_SECONDS)  # what is being closed gets to its end
    if (left := len(asyncio.all_tasks())) > tasks:
        leaks.append(f"{left - tasks} tasks more than at the start")
    return SoakFigures(
        seconds=scale.seconds,
        answers=account.answers,
        answers_failed=account.failed,
        unverified_share=account.unverified / max(1, account.tokens),
        faults=dict(faults),
        fleet_mb=quarters(samples.fleet),
        verifier_mb=quarters(samples.verifier),
        handles=[samples.handles[0], samples.handles[-1]],
        partitions_behind=late,
        crashes=crashes,
        leaks=leaks,
    )


def _pool(site: Site) -> AbstractAsyncContextManager[Pool]:
    knobs = {"SYNTHETIC_PASS_MS": 30, "SLOTS": SLOTS, "REDIS_CONNECTIONS": REDIS_CONNECTIONS}
    return site.pool(environment=ALLOCATOR, **knobs)  # type: ignore[arg-type]


# -- faults -----------------------------------------------------------------------------------------------------------


async def _kill(site: Site, pool: Pool, veteran: Verifier, draw: random.Random) -> None:
    pool.kill(draw.choice([m for m in pool.members if m is not veteran]))


async def _terminate(site: Site, pool: Pool, veteran: Verifier, draw: random.Random) -> None:
    await pool.terminate(draw.choice([m for m in pool.members if m is not veteran]), 30)


async def _freeze_verifier(site: Site, pool: Pool, veteran: Verifier, draw: random.Random) -> None:
    member = draw.choice(pool.members)
    member.child.signal(signal.SIGSTOP)
    await asyncio.sleep(FREEZE_SECONDS)
    member.child.signal(signal.SIGCONT)


async def _freeze_broker(site: Site, pool: Pool, veteran: Verifier, draw: random.Random) -> None:
    site.broker.pause()
    await asyncio.sleep(FREEZE_SECONDS)
    site.broker.resume()


async def _freeze_redis(site: Site, pool: Pool, veteran: Verifier, draw: random.Random) -> None:
    site.redis.pause()
    await asyncio.sleep(FREEZE_SECONDS)
    site.redis.resume()


_FAULTS: tuple[Callable[[Site, Pool, Verifier, random.Random], Awaitable[None]], ...] = (
    _kill, _kill, _terminate, _freeze_verifier, _freeze_broker, _freeze_redis,
)  # fmt: skip


# -- what is left -----------------------------------------------------------------------------------------------------


@dataclass
class _Samples:
    """One of each a second: memory in MB, open files and connections of the veteran."""

    fleet: list[float] = field(default_factory=list)
    verifier: list[float] = field(default_factory=list)
    handles: list[int] = field(default_factory=list)

    def growth(self) -> list[str]:
        found = []
        for name, values in (("fleet", self.fleet), ("verifier", self.verifier)):
            first, *_, last = quarters(values)
            if last - first > MEMORY_MB:
                found.append(f"{name}: {last - first:.1f} MB more in the last quarter than in the first")
        return found


def quarters(values: list[float]) -> list[float]:
    """The median of each quarter, the warm-up (a tenth) left out."""
    steady = values[len(values) // 10 :]
    size = max(1, len(steady) // 4)
    return [round(statistics.median(steady[n * size : (n + 1) * size] or steady), 1) for n in range(4)]


async def _sample(veteran: Verifier, samples: _Samples) -> None:
    process = psutil.Process(veteran.child.pid)
    while True:
        samples.fleet.append(memory_mb())
        samples.verifier.append(veteran.memory_mb())
        samples.handles.append(process.num_fds())
        await asyncio.sleep(1.0)


async def _left_in_verifiers(pool: Pool, veteran: Verifier, samples: _Samples) -> list[str]:
    gc.collect()
    found = []
    now = psutil.Process(veteran.child.pid).num_fds()
    samples.handles.append(now)
    if now > samples.handles[0] + HANDLES:
        found.append(f"the veteran verifier has {now} files and connections, {samples.handles[0]} at the start")
    for page in await asyncio.gather(*(m.metrics() for m in pool.members)):
        if page["sluice_queued_messages"]:
            found.append(f"{page['sluice_queued_messages']:.0f} messages are still queued")
        if page["sluice_slots_used"] > SLOTS:
            found.append(f"{page['sluice_slots_used']:.0f} slots in use, of {SLOTS}")
    return found


async def _left_in_redis(redis: Redis, pool: Pool) -> list[str]:
    """Keys that nothing will ever delete, and connections of those who have gone."""
    found = []
    eternal = [key async for key in redis.scan_iter(count=1000) if await redis.pttl(key) < 0]
    if eternal:
        found.append(f"{len(eternal)} keys without a time to live, such as {eternal[0]!r}")
    theirs = {int(c["addr"].rsplit(":", 1)[1]) for c in await redis.client_list()}
    known = {c.laddr.port for m in pool.members for c in psutil.Process(m.child.pid).net_connections("tcp")}
    known |= {c.laddr.port for c in psutil.Process().net_connections("tcp")}
    if theirs - known:
        found.append(f"{len(theirs - known)} connections to Redis of nobody")
    return found
