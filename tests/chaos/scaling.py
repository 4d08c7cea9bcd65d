"""Verifiers stopped in order and scaled up and down under load: nobody notices.

On Apache Kafka only: the embedded broker takes no commits while a group rebalances (what was finished last is delivered again),
and it takes 3 to 9 seconds for each change.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from tests.chaos.evidence import Replies, behind
from tests.chaos.fleet import Fleet, Habits, Job, jobs
from tests.chaos.site import Site
from tests.chaos.verifiers import Pool, Verifier

DEVICES = 8
DEADLINE_SECONDS = 2.0
DRAIN_SECONDS = 10.0
DRAFT_SECONDS = 0.025
LONG_PROMPT = 520
SESSION_TIMEOUT_MS = 10_000  # the default: who leaves in order need not wait for it
CALM_SECONDS = 2.0  # of load between two changes


@dataclass(frozen=True)
class ScalingScale:
    """``changes``: SIGTERMs, or rounds of 1 -> 3 -> 1. ``answers`` are written at a time."""

    changes: int
    answers: int
    seed: int = 2


@dataclass
class ScalingFigures:
    """``pauses``: the longest time (seconds) in which an answer stood still at each change. ``exits``: seconds from SIGTERM on.

    ``answered_twice``: rounds that got a second verdict. ``rebuilt_tokens``: fed again because a session changed its verifier.
    """

    changes: int
    answers: int
    answers_failed: int
    answered_twice: int
    exit_codes: list[int]
    exits: list[float]
    unverified_share: float
    pauses: list[float]
    rebuilt_tokens: int
    partitions_behind: list[int]
    crashes: int


def endless(prompt: int, seed: int, tokens: int = 96) -> Iterator[Job]:
    for n in count():
        yield from jobs(16, tokens=tokens, prompt=prompt, seed=seed + 1000 * n)


class _Change:
    """One run of changes under load, and what it leaves behind."""

    def __init__(self, site: Site, pool: Pool, fleet: Fleet) -> None:
        self._site, self._pool, self._fleet = site, pool, fleet
        self._windows: list[tuple[float, float]] = []
        self._gone: Counter[str] = Counter()  # metrics of those that have left
        self._exits: list[tuple[int, float]] = []

    async def stop(self, *members: Verifier) -> None:
        """SIGTERM to all at once; returns when they have left."""
        for page in await asyncio.gather(*(m.metrics() for m in members)):
            self._gone.update(page)
        self._exits += await asyncio.gather(*(self._pool.terminate(m, 2 * DRAIN_SECONDS) for m in members))

    async def watched(self, work: object) -> None:
        """A change, with calm load before and after it."""
        clock = asyncio.get_running_loop().time
        begin = clock()
        await work  # type: ignore[misc]  # a coroutine
        await self._pool.settled()
        self._windows.append((begin, clock()))
        await asyncio.sleep(CALM_SECONDS)

    async def figures(self) -> ScalingFigures:
        late = await behind(self._site.broker.bootstrap)
        async with self._site.redis.client() as redis:
            replies = await Replies.read(redis, [d.name for d in self._fleet.devices])
        fed = self._gone + await self._pool.totals()
        written = self._fleet.written
        return ScalingFigures(
            changes=len(self._windows),
            answers=len(written),
            answers_failed=sum(not w.complete for w in written),
            answered_twice=replies.delivered_again(),
            exit_codes=[code for code, _ in self._exits],
            exits=[seconds for _, seconds in self._exits],
            unverified_share=self._fleet.unverified_share,
            pauses=[max(s for w in written if (s := w.stall(*window)) is not None) for window in self._windows],
            rebuilt_tokens=int(fed["sluice_rebuilt_tokens_total"]),
            partitions_behind=late,
            crashes=self._pool.count_crashes(),
        )


async def terminations(site: Site, scale: ScalingScale) -> ScalingFigures:
    """One of three verifiers after the other gets SIGTERM in mid-batch, with its successor already there."""
    name = f"term{scale.seed}"
    async with (
        site.pool(session_timeout_ms=SESSION_TIMEOUT_MS, DRAIN_SECONDS=DRAIN_SECONDS) as pool,
        site.fleet(name, DEVICES, Habits(deadline=DEADLINE_SECONDS, draft=DRAFT_SECONDS)) as fleet,
    ):
        await pool.grow(3)
        load = asyncio.create_task(fleet.keep_writing(scale.answers, endless(24, scale.seed)))
        change = _Change(site, pool, fleet)
        for _ in range(scale.changes):
            pool.start()
            await pool.settled()
            await change.watched(change.stop(await pool.busy()))
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
        await fleet.finish()
        return await change.figures()


async def up_and_down(site: Site, scale: ScalingScale) -> ScalingFigures:
    """1 -> 3 -> 1 verifiers under load with long prompts."""
    name = f"scale{scale.seed}"
    settings: dict[str, Any] = {"SYNTHETIC_PASS_MS": 20, "SYNTHETIC_TOKEN_MS": 0.1, "DRAIN_SECONDS": DRAIN_SECONDS}
    async with (
        site.pool(session_timeout_ms=SESSION_TIMEOUT_MS, **settings) as pool,
        site.fleet(name, DEVICES, Habits(deadline=DEADLINE_SECONDS, draft=DRAFT_SECONDS)) as fleet,
    ):
        await pool.grow(1)
        load = asyncio.create_task(fleet.keep_writing(scale.answers, endless(LONG_PROMPT, scale.seed)))
        change = _Change(site, pool, fleet)
        for _ in range(scale.changes):
            await asyncio.sleep(CALM_SECONDS)
            await change.watched(pool.grow(3))
            await change.watched(change.stop(*pool.members[1:]))
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
        await fleet.finish()
        return await change.figures()
