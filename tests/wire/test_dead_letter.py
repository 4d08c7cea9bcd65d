"""Dead letters in numbers, on a real broker; and where there is none."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from services.cli.local.ports import free_port
from services.common.kafka.link import KafkaLink
from services.common.keys import DEAD_LETTER_TOPIC
from services.verifier.dead_letter import IN_FLIGHT, MAX_BYTES, SEND_SECONDS, DeadLetters, Letter
from services.verifier.metrics import VerifierMetrics

BURST = 10_000


async def read(bootstrap: str, count: int) -> list[Any]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=2)
    consumer.assign([TopicPartition(DEAD_LETTER_TOPIC, p) for p in range(4)])
    await consumer.start()
    try:
        found: list[Any] = []
        while len(found) < count:
            batches = await consumer.getmany(timeout_ms=5000)
            assert batches, f"{len(found)} of {count} letters came"
            found += [record for records in batches.values() for record in records]
        return found
    finally:
        await consumer.stop()


async def test_ten_thousand_letters_travel_in_batches(bootstrap: str) -> None:
    registry = CollectorRegistry()
    letters = DeadLetters(KafkaLink(bootstrap), VerifierMetrics(registry))
    big = Letter(b"k" * 500, b"\xff" * (MAX_BYTES + 1), 3, 7, "shop.1")
    await letters.send(big, "too long " * 100)
    running, most = 0, 0

    async def send(number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await letters.send(Letter(b"key", b"value %d" % number, 1, number), f"reason {number % 3}")
        running -= 1

    with capture_logs() as log:
        started = time.perf_counter()
        for first in range(0, BURST, 500):  # as many as a verifier reads before it pauses its partitions
            await asyncio.gather(*(send(n) for n in range(first, first + 500)))
        seconds = time.perf_counter() - started
        await letters.close()
    assert seconds < 15, f"{BURST} letters took {seconds:.1f} s"
    found = await read(bootstrap, BURST + 1)
    assert {r.value for r in found if r.key == b"key"} == {b"value %d" % n for n in range(BURST)}
    (first,) = [r for r in found if r.key != b"key"]
    headers = dict(first.headers)
    assert (first.key, first.value) == (b"k" * 64, b"\xff" * MAX_BYTES)
    assert headers["reason"].decode().startswith("too long too long")
    assert (len(headers["reason"]), headers["bytes"], headers["worker"]) == (300, str(MAX_BYTES + 1).encode(), b"shop.1")
    assert (headers["partition"], headers["offset"]) == (b"3", b"7")
    assert registry.get_sample_value("sluice_dead_letters_total") == BURST + 1
    assert registry.get_sample_value("sluice_dead_letters_lost_total") == 0
    assert len(log) < 4 * (seconds + 2), "the log is not flooded"
    assert sum(line["count"] for line in log) >= BURST, "but nothing is left out"
    assert "value" not in json.dumps(log)


@pytest.mark.timeout(60)
async def test_without_a_broker_junk_is_counted_and_stalls_nobody() -> None:
    registry = CollectorRegistry()
    letters = DeadLetters(KafkaLink(f"127.0.0.1:{free_port()}"), VerifierMetrics(registry))
    started = time.perf_counter()
    await letters.send(Letter(None, b"v", 0, 0), "first")
    first = time.perf_counter() - started
    started = time.perf_counter()
    await asyncio.gather(*(letters.send(Letter(None, b"v", 0, n), "more") for n in range(10 * IN_FLIGHT)))
    assert time.perf_counter() - started < 2, "given up at once"
    assert first < SEND_SECONDS + 1
    assert registry.get_sample_value("sluice_dead_letters_lost_total") == 10 * IN_FLIGHT + 1
    await letters.close()
