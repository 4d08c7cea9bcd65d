"""Deadlines go by when the broker took a message; where its topic does not say, by when the verifier read it."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest

from services.common import synthetic
from services.common.keys import CANDIDATES_TOPIC
from services.common.messages import Status
from tests.kafka.site import Site
from tests.verifier.device import Device
from tests.verifier.service import VerifierProcess

ALMOST_AN_HOUR = 3_500.0  # Kafka itself refuses stamps that are more than an hour ahead
TOLD = "the topic stamps the devices' clocks"


@pytest.mark.parametrize("stamps", ["LogAppendTime", "CreateTime"])
async def test_a_device_s_clock_does_not_matter(site: Site, redis_url: str, tmp_path: Path, stamps: str) -> None:
    change = ["--alter", "--topic", CANDIDATES_TOPIC, "--add-config"]
    await asyncio.to_thread(site.node.admin, "configs", *change, f"message.timestamp.type={stamps}")
    knobs = site.knobs("verifier") | {"MODEL": "synthetic", "EMBEDDED": "false"}
    verifier = VerifierProcess(site.node.bootstrap, redis_url, tmp_path / "verifier.log", **knobs)
    try:
        await asyncio.to_thread(verifier.wait_ready)
        async with Device(site.node.plain_bootstrap, redis_url, synthetic.TOKENIZER_HASH) as device:
            for off in (ALMOST_AN_HOUR, -ALMOST_AN_HOUR):
                first = device.opening([1, 2, 3], secrets.token_bytes(16))
                await device.publish(first, age_seconds=off)
                await device.publish(device.batch(first.session, [1, 2, 3], [], ttl_ms=20_000), age_seconds=off)
                assert (await device.verdict()).status is Status.OK
    finally:
        verifier.kill()
        await asyncio.to_thread(site.node.admin, "configs", *change, "message.timestamp.type=LogAppendTime")
    assert verifier.log.read_text().count(TOLD) == (1 if stamps == "CreateTime" else 0)
