"""SIGTERM under load, parts that get stuck, and what the health checks say of them."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import time
from typing import Any

from tests.intake.conftest import PARTITIONS, Pool, eventually
from tests.verifier.service import VerifierProcess

BASE = [1, 2, 3]
DRAIN = 5.0


def phases(verifier: VerifierProcess) -> dict[str, float]:
    """Seconds of each phase of the stop, in order."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in verifier.log.read_text().splitlines()]
    return {line["phase"]: line["seconds"] for line in lines if line["event"] == "stopping"}


async def test_sigterm_under_load_answers_what_was_read_once_and_leaves_the_rest(pool: Pool) -> None:
    first = await asyncio.to_thread(pool.ready, SYNTHETIC_PASS_MS="20", MAX_QUEUED="64", DRAIN_SECONDS=str(DRAIN))
    async with pool.device() as device:
        openings = [device.opening(BASE, secrets.token_bytes(16)) for _ in range(600)]
        for opening in openings:
            await device.publish(opening)
            if opening is openings[0]:
                await device.publish(device.batch(opening.session, BASE, []))
                await device.verdict()
        await asyncio.gather(*(device.publish(device.batch(o.session, BASE, [])) for o in openings[1:]))
        await asyncio.to_thread(eventually, lambda: first.metric("sluice_queued_messages") > 32)
        began = time.monotonic()
        first.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.1)
        first.process.send_signal(signal.SIGTERM)  # a second one changes nothing
        assert await asyncio.to_thread(first.process.wait, 30) == 0
        took = time.monotonic() - began
        print(f"stopped in {took:.2f} s: {phases(first)}")  # noqa: T201 - figures for whoever runs with -s
        assert list(phases(first)) == ["readiness off", "pause", "drain", "store", "commit", "leave"]
        assert sum(phases(first).values()) < DRAIN
        assert took < DRAIN + 1
        assert pool.committed() != pool.ends(), "nothing was left for the next one"
        second = await asyncio.to_thread(pool.ready)
        verdicts = await device.verdicts(599)
        assert len({v.session for v in verdicts}) == len(verdicts) == 599  # each once
        await asyncio.to_thread(eventually, lambda: pool.committed() == pool.ends(), every=0.3)
        assert second.metric("sluice_verdicts_resent_total") == 0
        assert second.metric("sluice_lost_races_total") == 0


async def test_sigterm_beside_a_busy_engine_keeps_the_budget(pool: Pool) -> None:
    """The pass takes 8 s, the budget is 2 s: the verifier leaves, and the round is somebody else's."""
    first = await asyncio.to_thread(pool.ready, SYNTHETIC_PASS_MS="8000", DRAIN_SECONDS="2")
    async with pool.device() as device:
        opening = device.opening(BASE, secrets.token_bytes(16))
        await device.publish(opening)
        await device.publish(device.batch(opening.session, BASE, []))
        await asyncio.to_thread(eventually, lambda: first.metric("sluice_queued_messages") > 0)
        began = time.monotonic()
        assert await asyncio.to_thread(first.stop) == 0
        assert time.monotonic() - began < 3.5
        assert "will be redelivered" in first.log.read_text()
        await asyncio.to_thread(pool.ready)
        assert (await device.verdict()).session == opening.session


async def test_a_stuck_engine_is_told_and_its_end_is_told_too(pool: Pool) -> None:
    verifier = await asyncio.to_thread(pool.ready, SYNTHETIC_PASS_MS="4000", WATCHDOG_SECONDS="1.5")
    async with pool.device() as device:
        assert verifier.get("/livez").status_code == 200
        await device.publish(device.opening(BASE, secrets.token_bytes(16)))
        await asyncio.to_thread(eventually, lambda: verifier.get("/livez").status_code == 503)
        assert "although there is work" in verifier.get("/livez").json()["causes"]["engine"]
        assert verifier.get("/readyz").status_code == 200  # it is for the liveness probe to act
        await asyncio.to_thread(eventually, lambda: verifier.get("/livez").status_code == 200)
    await asyncio.to_thread(eventually, lambda: '"no longer stuck"' in verifier.log.read_text())
    assert verifier.log.read_text().count('"stuck"') == 1


async def test_a_stopped_process_gives_its_partitions_away_and_comes_back(pool: Pool) -> None:
    """SIGSTOP past the session timeout, as a frozen machine: Kafka moves its partitions; then it joins again."""
    frozen, other = pool.start(), pool.start()
    for member in (frozen, other):
        await asyncio.to_thread(member.wait_ready)
    frozen.process.send_signal(signal.SIGSTOP)
    try:
        await asyncio.to_thread(eventually, lambda: other.metric("sluice_partitions") == PARTITIONS)
    finally:
        frozen.process.send_signal(signal.SIGCONT)
    await asyncio.to_thread(eventually, lambda: 0 < frozen.metric("sluice_partitions") < PARTITIONS)
    async with pool.device() as device:
        openings = [device.opening(BASE, secrets.token_bytes(16)) for _ in range(20)]
        for opening in openings:
            await device.publish(opening)
            await device.publish(device.batch(opening.session, BASE, []))
        assert {v.session for v in await device.verdicts(20)} == {o.session for o in openings}
    await asyncio.to_thread(eventually, lambda: pool.committed() == pool.ends(), every=0.3)
