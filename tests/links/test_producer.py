"""The uplink on Apache Kafka: what is given up is not sent later, and every kind of breakage ends by itself."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from services.common.kafka.link import KafkaLink
from services.common.keys import CANDIDATES_TOPIC, DEAD_LETTER_TOPIC
from services.edge_worker.producer import Producer
from services.edge_worker.verifier_client import LinkDown
from tests.cluster.kafka import ApacheKafka
from tests.links.conftest import until

SECONDS = 1.0
KEY = b"k" * 16


@pytest.fixture(scope="module")
def node(apache_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    node = ApacheKafka(tmp_path_factory.mktemp("kafka"))
    try:
        make_topics(node.start())
        yield node
    finally:
        node.close()


def make_topics(node: ApacheKafka) -> None:
    for topic in (CANDIDATES_TOPIC, DEAD_LETTER_TOPIC):
        node.create_topic(topic, 1)


@asynccontextmanager
async def producing(bootstrap: str, *, embedded: bool = False) -> AsyncIterator[Producer]:
    """And nothing of it is left behind."""
    before = asyncio.all_tasks()
    producer = Producer(KafkaLink(bootstrap, embedded=embedded), topic=CANDIDATES_TOPIC, name="edge", seconds=SECONDS)
    running = asyncio.create_task(producer.run())
    await until(lambda: producer.up)
    yield producer
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await producer.close()
    assert asyncio.all_tasks() == before


async def messages(node: ApacheKafka, first: bytes = b"before") -> list[bytes]:
    """What is in the topic since the last ``first``."""
    consumer = AIOKafkaConsumer(bootstrap_servers=node.bootstrap, auto_offset_reset="earliest")
    tp = TopicPartition(CANDIDATES_TOPIC, 0)
    consumer.assign([tp])
    await consumer.start()
    try:
        end = (await consumer.end_offsets([tp]))[tp]
        found: list[bytes] = []
        while await consumer.position(tp) < end:
            batches = await consumer.getmany(timeout_ms=500)
            found += [record.value for records in batches.values() for record in records]
        return found[len(found) - 1 - found[::-1].index(first) :]
    finally:
        await consumer.stop()


async def refused(producer: Producer, value: bytes) -> float:
    """Seconds until the message was given up."""
    began = time.monotonic()
    with pytest.raises(LinkDown):
        await producer.send(KEY, value, [])
    return time.monotonic() - began


async def test_an_outage_leaves_no_backlog(node: ApacheKafka) -> None:
    async with producing(node.bootstrap) as producer:
        await producer.send(KEY, b"before", [])
        os.kill(node.pid, signal.SIGSTOP)
        try:
            assert await refused(producer, b"given up") < SECONDS + 0.5
            for n in range(20):
                assert await refused(producer, b"late %d" % n) < 0.1, "it is known to be down"
            await asyncio.sleep(2)
        finally:
            os.kill(node.pid, signal.SIGCONT)
        await until(lambda: producer.up, 15)
        await producer.send(KEY, b"after", [])
    found = await messages(node)
    assert [value for value in found if value != b"given up"] == [b"before", b"after"]
    assert found.count(b"given up") <= 1  # it was on its way when the broker froze


async def test_a_broker_that_was_killed_and_comes_back(node: ApacheKafka) -> None:
    async with producing(node.bootstrap) as producer:
        await producer.send(KEY, b"before", [])
        await asyncio.to_thread(node.kill)
        assert await refused(producer, b"lost") < SECONDS + 0.5
        await asyncio.to_thread(node.start)
        await until(lambda: producer.up, 15)
        await producer.send(KEY, b"after", [])
    assert await messages(node) == [b"before", b"after"]


async def test_sequence_numbers_out_of_order_end_with_a_new_producer(node: ApacheKafka) -> None:
    """The broker then refuses each message of this producer id, for ever."""
    async with producing(node.bootstrap) as producer:
        await producer.send(KEY, b"before", [])
        assert producer._producer is not None
        producer._producer._txn_manager.increment_sequence_number(TopicPartition(CANDIDATES_TOPIC, 0), 7)
        await refused(producer, b"refused")
        await until(lambda: producer.up)
        await producer.send(KEY, b"after", [])
    assert await messages(node) == [b"before", b"after"]


async def test_an_oversized_message_is_refused_and_the_link_stays(node: ApacheKafka) -> None:
    async with producing(node.bootstrap) as producer:
        with pytest.raises(LinkDown) as caught:
            await producer.send(KEY, bytes(2_000_000), [])
        assert caught.value.cause == "oversized"
        assert producer.up
        await producer.send(KEY, b"after", [])


async def test_many_at_once_through_an_outage_leave_nothing_behind(node: ApacheKafka) -> None:
    async with producing(node.bootstrap) as producer:
        os.kill(node.pid, signal.SIGSTOP)
        try:
            outcomes = await asyncio.gather(*(producer.send(KEY, b"x%d" % n, []) for n in range(200)), return_exceptions=True)
        finally:
            os.kill(node.pid, signal.SIGCONT)
        assert {type(outcome) for outcome in outcomes} == {LinkDown}
        await until(lambda: producer.up, 15)


async def test_a_broker_that_comes_back_without_its_data(node: ApacheKafka) -> None:
    """It knows neither topic nor producer id any more."""
    async with producing(node.bootstrap) as producer:
        await producer.send(KEY, b"before", [])
        await asyncio.to_thread(node.kill)
        await refused(producer, b"lost")
        shutil.rmtree(node.folder / "data")
        await asyncio.to_thread(node.start)
        await asyncio.to_thread(make_topics, node)
        await until(lambda: producer.up, 20)
        for n in range(3):
            await producer.send(KEY, b"after %d" % n, [])
    assert await messages(node, b"after 0") == [b"after 0", b"after 1", b"after 2"]
