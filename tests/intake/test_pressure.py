"""More messages than the engine can take: the queue and the membership hold."""

from __future__ import annotations

import asyncio
import secrets
import time

import psutil

from services.common.messages import Status
from tests.intake.conftest import SESSION_MS, Pool
from tests.verifier.device import Device

QUEUE = 32


async def flood(device: Device, sessions: int) -> None:
    """One round of each session, as fast as the broker takes them."""
    openings = [device.opening([1, 2, 3], secrets.token_bytes(16)) for _ in range(sessions)]
    await asyncio.gather(*(device.publish(opening) for opening in openings))
    await asyncio.gather(*(device.publish(device.batch(o.session, [1, 2, 3], [])) for o in openings))


async def test_a_slow_engine_bounds_the_queue_and_keeps_its_partitions(pool: Pool) -> None:
    verifier = await asyncio.to_thread(
        pool.ready, SYNTHETIC_PASS_MS="20", MAX_QUEUED=str(QUEUE), SLOTS="8", MAX_BATCH_SESSIONS="4"
    )
    process = psutil.Process(verifier.process.pid)
    before = process.memory_info().rss
    queued, memory = [], []
    async with pool.device() as device:
        began = time.monotonic()
        await flood(device, 1000)
        answered = asyncio.create_task(device.verdicts(1000, 60))
        while not answered.done():
            queued.append(await asyncio.to_thread(verifier.metric, "sluice_queued_messages"))
            memory.append(process.memory_info().rss)
            await asyncio.sleep(0.2)
        verdicts = await answered
    seconds = time.monotonic() - began
    print(  # noqa: T201 - figures for whoever runs with -s
        f"2000 messages in {seconds:.1f} s; queued at most {max(queued):.0f}; {(max(memory) - before) / 2**20:.1f} MiB more"
    )
    assert seconds > 2 * SESSION_MS / 1000, "it was not slow enough to tell"
    assert {v.status for v in verdicts} == {Status.OK}
    assert len({v.session for v in verdicts}) == 1000
    assert QUEUE / 2 < max(queued) <= QUEUE
    assert max(memory) - before < 40 * 2**20
    assert verifier.metric("sluice_rebalances_total") == 1
    assert verifier.metric("sluice_verdicts_resent_total") == 0
