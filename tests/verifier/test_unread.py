"""How far behind a verifier is, on the embedded broker."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from services.common.keys import CANDIDATES_TOPIC
from services.verifier.consumer import put_away, unread
from tests.verifier.conftest import Broker

PARTITION = TopicPartition(CANDIDATES_TOPIC, 0)


async def test_what_was_not_read_is_counted(bootstrap: str) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=2)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    await consumer.start()
    try:
        assert await unread(consumer) == 0, "nothing is assigned"
        consumer.assign([PARTITION])
        before = await unread(consumer)
        assert before is not None
        for _ in range(5):
            await producer.send_and_wait(CANDIDATES_TOPIC, b"x", partition=0)
        assert await unread(consumer) == before + 5
        read = 0
        async with asyncio.timeout(10):
            while read < before + 5:
                read += sum(map(len, (await consumer.getmany(timeout_ms=100)).values()))
        assert await unread(consumer) == 0
    finally:
        await consumer.stop()
        await producer.stop()


async def test_where_it_cannot_be_told_nothing_is_said(broker: Broker) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.address, auto_offset_reset="earliest", fetch_max_wait_ms=2)
    await consumer.start()
    try:
        consumer.assign([PARTITION])
        assert await unread(consumer) == 0
        broker.process.kill()
        broker.process.wait(10)
        assert await unread(consumer) is None
    finally:
        await put_away(consumer, 2.0)
