"""Verifiers killed in mid-batch under load: every answer complete and, with a patient deadline, the same as without kills."""

from __future__ import annotations

import asyncio
import random
import statistics
from dataclasses import dataclass

from tests.chaos.evidence import Replies, behind
from tests.chaos.fleet import Fleet, Habits, Job, Written, jobs
from tests.chaos.site import Site
from tests.chaos.verifiers import Pool

DEVICES = 8
VERIFIERS = 3
AT_LEAST_RUNNING = 8
PROMPT, TOKENS = 24, 96
PATIENT_SECONDS = 90.0  # above session timeout + rebalance + rebuild
PRODUCTION_SECONDS = 2.0
DRAFT_SECONDS = 0.025


@dataclass(frozen=True)
class KillScale:
    """``sessions`` are spread over the ``kills``. ``deadline``: seconds that a device waits for a verdict.

    ``session_timeout_ms`` of Kafka; 0: the shortest that the broker allows.
    """

    kills: int
    sessions: int
    deadline: float
    session_timeout_ms: int = 0
    seed: int = 1


@dataclass
class KillFigures:
    """``patient``: the devices waited for every verdict. ``missed``: kills that came when the pass had just ended; they are not
    counted. ``crashes``: verifiers that died by themselves. Stalls in seconds, one figure for each kill.
    """

    scale: KillScale
    patient: bool

    kills: int
    missed: int
    answers: int
    answers_lost: int
    streams_different: int
    tokens_committed_twice: int
    unverified_share: float
    delivered_again: int
    refused: dict[str, int]
    partitions_behind: list[int]
    crashes: int
    stall_p50: list[float]
    stall_p99: list[float]
    seconds: float


async def run(site: Site, scale: KillScale) -> KillFigures:
    """Kill, wait until the pool is whole again, kill; compare with what the same devices write when left in peace."""
    work = jobs(scale.sessions, tokens=TOKENS, prompt=PROMPT, seed=scale.seed)
    clock = asyncio.get_running_loop().time
    begun = clock()
    name = f"k{scale.seed}-{int(scale.deadline)}"
    async with site.pool(session_timeout_ms=scale.session_timeout_ms) as pool:
        await pool.grow(VERIFIERS)
        expected = await _undisturbed(site, name, work)
        site.say(f"{len(expected)} answers written in peace after {clock() - begun:.0f} s")
        async with site.fleet(name, DEVICES, Habits(deadline=scale.deadline, draft=DRAFT_SECONDS)) as fleet:
            windows, missed = await _kill(site, pool, fleet, work, scale)
            await fleet.finish()
            late = await behind(site.broker.bootstrap)
            async with site.redis.client() as redis:
                replies = await Replies.read(redis, [d.name for d in fleet.devices])
            crashes = pool.count_crashes()
    stalls = [_stalls(fleet.written, *window) for window in windows]
    return KillFigures(
        scale=scale,
        patient=scale.deadline >= PATIENT_SECONDS,
        kills=len(windows),
        missed=missed,
        answers=len(fleet.written),
        answers_lost=sum(not w.complete for w in fleet.written),
        streams_different=sum(w.ids != expected[w.job.seed] for w in fleet.written),
        tokens_committed_twice=replies.contradictions() + sum(w.twice() for w in fleet.written),
        unverified_share=fleet.unverified_share,
        delivered_again=replies.delivered_again(),
        refused=replies.refused(),
        partitions_behind=late,
        crashes=crashes,
        stall_p50=[statistics.median(s) for s in stalls if s],
        stall_p99=[sorted(s)[int(0.99 * (len(s) - 1) + 0.5)] for s in stalls if s],
        seconds=clock() - begun,
    )


async def _undisturbed(site: Site, name: str, work: list[Job]) -> dict[int, list[int]]:
    """Seed of each job to the ids that are written when nothing breaks."""
    async with site.fleet(f"{name}-peace", DEVICES, Habits(deadline=PATIENT_SECONDS)) as fleet:
        await fleet.keep_writing(64, work)
    assert all(w.complete and not w.unverified for w in fleet.written), "not even in peace is every answer verified"
    return {w.job.seed: w.ids for w in fleet.written}


async def _kill(
    site: Site, pool: Pool, fleet: Fleet, work: list[Job], scale: KillScale
) -> tuple[list[tuple[float, float]], int]:
    """From when to when the pool was not whole, for each kill in mid-batch; and the number of kills that missed."""
    draw, clock = random.Random(scale.seed), asyncio.get_running_loop().time
    waiting = list(reversed(work))
    windows: list[tuple[float, float]] = []
    missed = 0
    while len(windows) < scale.kills:
        due = scale.sessions * (len(windows) + 1) / scale.kills
        while waiting and (len(work) - len(waiting) < due or fleet.running < AT_LEAST_RUNNING):
            fleet.begin(waiting.pop())
        assert fleet.running, f"all answers were written after {len(windows)} kills"
        begin = clock()
        hit = await pool.kill_in_a_batch(draw)
        await pool.grow(VERIFIERS)
        missed += not hit
        if hit:
            windows.append((begin, clock()))
            if len(windows) % 10 == 0:
                site.say(f"{len(windows)} of {scale.kills} kills, {len(fleet.written)} answers complete")
    fleet.begin(*waiting)
    return windows, missed


def _stalls(written: list[Written], begin: float, end: float) -> list[float]:
    return [s for w in written if (s := w.stall(begin, end)) is not None]
