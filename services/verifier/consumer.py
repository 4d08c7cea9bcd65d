"""The aiokafka consumer of a verifier: how it is set up, how it is put away for sure, and why it cannot work."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError

from services.common.kafka import check as kafka_check
from services.common.kafka.check import Needs, verifier_needs
from services.common.kafka.embedded import PatientRoundRobin
from services.common.kafka.link import client_options
from services.common.keys import CANDIDATES_TOPIC
from services.common.lifecycle import settled
from services.verifier.settings import VerifierSettings

METADATA_MS = 15_000  # after so long new partitions are noticed
REQUEST_MS = 40_000
EXPLAIN_SECONDS = 5.0
UNREAD_SECONDS = 2.0
_MARGIN_SECONDS = 10.0  # a rebalance waits for the drain budget and this much more


def rebalance_seconds(settings: VerifierSettings) -> float:
    """How long a rebalance may take at most: each member has the drain budget, and one that is dead its session timeout."""
    return settings.drain_seconds + _MARGIN_SECONDS + settings.session_timeout_ms / 1000


def build(settings: VerifierSettings, listener: ConsumerRebalanceListener) -> AIOKafkaConsumer:
    """A subscribed consumer, to be started at once: aiokafka's idle clock runs from here on."""
    rebalance_ms = int((settings.drain_seconds + _MARGIN_SECONDS) * 1000)
    # Polling never waits for the work. Who does not poll for this long is stuck: its partitions go to others.
    poll_ms = int(1000 * (settings.watchdog_seconds + rebalance_seconds(settings)))
    consumer = AIOKafkaConsumer(
        **client_options(settings.kafka_link),
        group_id=settings.group_id,
        group_instance_id=settings.group_instance_id or None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=settings.fetch_wait_ms,
        max_partition_fetch_bytes=settings.fetch_bytes,
        session_timeout_ms=settings.session_timeout_ms,
        heartbeat_interval_ms=settings.heartbeat_ms,
        rebalance_timeout_ms=rebalance_ms,
        max_poll_interval_ms=poll_ms,
        request_timeout_ms=max(REQUEST_MS, rebalance_ms + 5_000),  # joining the group is one request that waits for all
        metadata_max_age_ms=METADATA_MS,
        partition_assignment_strategy=(PatientRoundRobin if settings.embedded else RoundRobinPartitionAssignor,),
    )
    consumer.subscribe([CANDIDATES_TOPIC], listener=listener)
    return consumer


async def put_away(consumer: AIOKafkaConsumer, seconds: float) -> BaseException | None:
    """Leave the group within ``seconds``, or end without; returns what stood in the way.

    A consumer that does not stop would go on with its heartbeats and hold partitions that nobody reads: its tasks are ended
    one by one, which aiokafka has no call for.
    """
    failure = await settled(consumer.stop(), seconds)
    if failure is None:
        return None
    tasks = [task for part in (consumer._coordinator, consumer._fetcher) for task in _tasks_of(part)]
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=1.0)
    await settled(consumer._client.close(), 1.0)
    return failure


async def unread(consumer: AIOKafkaConsumer) -> int | None:
    """Messages in its partitions that it has not read; None where that cannot be told now: they are moving, say."""
    own = consumer.assignment()
    try:
        async with asyncio.timeout(UNREAD_SECONDS):
            ends = await consumer.end_offsets(own) if own else {}
            behind: list[int] = [max(0, end - await consumer.position(tp)) for tp, end in ends.items()]
            return sum(behind)
    except (KafkaError, OSError, TimeoutError):
        return None


async def explain(settings: VerifierSettings, error: BaseException | None = None) -> str:
    """One line about what is wrong and what to do; empty if all is well and there is no ``error``."""
    try:
        async with asyncio.timeout(EXPLAIN_SECONDS):
            return await kafka_check.explain(settings.kafka_link, needs(settings), error)
    except TimeoutError:
        return "Kafka does not answer"


def needs(settings: VerifierSettings) -> Needs:
    return verifier_needs(settings.group_id)


def _tasks_of(part: Any) -> list[asyncio.Task[Any]]:
    found = vars(part).values() if part is not None else ()
    groups = [value if isinstance(value, set) else {value} for value in found if isinstance(value, asyncio.Task | set)]
    return [task for group in groups for task in group if isinstance(task, asyncio.Task) and not task.done()]
