"""The Kafka side: reads messages, commits what is finished, hands partitions over in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError

from services.common.credentials import Keyring
from services.common.embedded_kafka import PatientRoundRobin
from services.common.kafka import client_options
from services.common.keys import CANDIDATES_TOPIC
from services.common.lifecycle import Backoff, settled
from services.common.messages import MessageError
from services.common.outage import Link
from services.verifier.admission import admit
from services.verifier.dead_letter import Letter
from services.verifier.metrics import VerifierMetrics
from services.verifier.offsets import Offsets
from services.verifier.pump import Pump
from services.verifier.sessions import Arrival, Sessions
from services.verifier.settings import VerifierSettings

POLL_MS = 100
MAX_RECORDS = 128
PROBE_SECONDS = 3.0
LEAVE_SECONDS = 5.0
_MARGIN_MS = 10_000  # a rebalance waits for the drain budget and this much more


class Intake(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One consumer at a time, built anew after an error it cannot recover from."""

    def __init__(
        self,
        settings: VerifierSettings,
        offsets: Offsets,
        sessions: Sessions,
        pump: Pump,
        kafka: Link,
        metrics: VerifierMetrics,
        keyring: Keyring,
    ) -> None:
        self._settings = settings
        self._offsets = offsets
        self._sessions = sessions
        self._pump = pump
        self._kafka = kafka
        self._metrics = metrics
        self._keyring = keyring
        self._consumer: AIOKafkaConsumer | None = None
        self._log = structlog.get_logger()

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until ``stop``, then drain within the budget, commit and leave the group."""
        backoff = Backoff()
        while not stop.is_set():
            consumer = self._build()
            helpers: list[asyncio.Task[None]] = []
            try:
                await _unless(stop, consumer.start())
                if not stop.is_set():
                    self._consumer = consumer
                    self._kafka.good()
                    backoff.reset()
                    helpers = [asyncio.create_task(self._commit_loop()), asyncio.create_task(self._probe(consumer))]
                    await _unless(stop, self._poll(consumer, stop))
                    await self._drain(self._settings.drain_seconds)
            except (KafkaError, OSError) as error:
                self._kafka.bad(error)
            finally:
                for task in helpers:
                    task.cancel()
                await asyncio.gather(*helpers, return_exceptions=True)
                await self._leave(consumer)
            if not stop.is_set():
                await backoff.sleep()

    def _build(self) -> AIOKafkaConsumer:
        s = self._settings
        consumer = AIOKafkaConsumer(
            **client_options(s.kafka_link),
            group_id=s.group_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=s.fetch_wait_ms,
            max_partition_fetch_bytes=s.fetch_bytes,
            session_timeout_ms=s.session_timeout_ms,
            heartbeat_interval_ms=s.session_timeout_ms // 4,
            rebalance_timeout_ms=int(s.drain_seconds * 1000) + _MARGIN_MS,
            partition_assignment_strategy=(PatientRoundRobin if s.embedded else RoundRobinPartitionAssignor,),
        )
        consumer.subscribe([CANDIDATES_TOPIC], listener=self)
        return consumer

    async def _poll(self, consumer: AIOKafkaConsumer, stop: asyncio.Event) -> None:
        paused = False
        while not stop.is_set():
            batches = await consumer.getmany(timeout_ms=POLL_MS, max_records=MAX_RECORDS)
            for records in batches.values():
                for record in records:
                    self._accept(record)
            queued = self._offsets.unfinished
            self._metrics.queued.set(queued)
            full = queued >= (self._settings.max_queued if not paused else self._settings.max_queued // 2)
            if full:
                consumer.pause(*consumer.assignment())  # also those assigned meanwhile
            elif paused:
                consumer.resume(*consumer.paused())
            paused = full

    def _accept(self, record: ConsumerRecord) -> None:
        ticket = self._offsets.deliver(record.partition, record.offset)
        letter = Letter(record.key, record.value or b"", record.partition, record.offset)
        try:
            admitted = admit(self._keyring, record.headers, record.key, letter.value)
        except MessageError as error:
            self._sessions.set_aside(letter, ticket, str(error))
            return
        appended = record.timestamp / 1000 if record.timestamp and record.timestamp > 0 else time.time()
        self._sessions.push(Arrival(admitted.message, admitted.identity, letter, ticket, appended))

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Drain first, fence second: work that has begun is finished, stored and committed before the partition goes."""
        partitions = [tp.partition for tp in revoked]
        try:
            self._offsets.close(partitions)
            for session in self._sessions.of(partitions):
                self._pump.withdraw(session)
            await self._wait(lambda: self._offsets.running(partitions) == 0, self._settings.drain_seconds)
            await self._commit()
        finally:
            self._offsets.forget(partitions)
            self._metrics.partitions.set(0)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._metrics.partitions.set(len(assigned))
        self._metrics.rebalances.inc()
        self._kafka.good()
        self._log.info("partitions assigned", partitions=sorted(tp.partition for tp in assigned))

    async def _drain(self, budget: float) -> None:
        """Finish what has been read."""
        left = await self._wait(lambda: self._offsets.unfinished == 0, budget)
        if not left:
            self._log.warning("drain budget is over; the rest will be redelivered", messages=self._offsets.unfinished)

    @staticmethod
    async def _wait(condition: Callable[[], bool], budget: float) -> bool:
        end = time.monotonic() + budget
        while not condition():
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.005)
        return True

    async def _leave(self, consumer: AIOKafkaConsumer) -> None:
        if self._consumer is consumer:
            await self._commit()
            self._consumer = None
            partitions = self._offsets.partitions
            self._offsets.close(partitions)
            self._offsets.forget(partitions)
        self._metrics.partitions.set(0)
        failure = await settled(consumer.stop(), LEAVE_SECONDS)
        if failure is not None:
            self._log.info("left the group without a goodbye", error=type(failure).__name__)

    async def _commit_loop(self) -> None:
        while True:
            await asyncio.sleep(self._settings.commit_interval_ms / 1000)
            await self._commit()

    async def _commit(self) -> None:
        offsets = self._offsets.to_commit()
        if self._consumer is None or not offsets:
            return
        try:
            async with asyncio.timeout(5):
                await self._consumer.commit({TopicPartition(CANDIDATES_TOPIC, p): o for p, o in offsets.items()})
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            # During a rebalance or an outage: what is not committed is delivered again, and answered from the store.
            self._log.info("commit postponed", error=type(error).__name__)
        else:
            self._offsets.committed(offsets)

    async def _probe(self, consumer: AIOKafkaConsumer) -> None:
        """aiokafka reconnects by itself and tells nobody: ask, so that readiness and the log tell the truth."""
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    await consumer.topics()
            except (KafkaError, OSError, TimeoutError) as error:
                self._kafka.bad(error)
            else:
                self._kafka.good()


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """``work``, given up when ``stop`` comes and it does not end soon: a client may block while the broker is away."""
    task, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await asyncio.wait({task}, timeout=10 * POLL_MS / 1000)
        if task.done():
            task.result()
    finally:
        stopping.cancel()
        task.cancel()
        await asyncio.gather(task, stopping, return_exceptions=True)
