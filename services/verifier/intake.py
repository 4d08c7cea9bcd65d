"""The Kafka side: reads messages in turn from each partition, as many as there is room for, and never stops polling."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from services.common.credentials import Keyring
from services.common.keys import CANDIDATES_TOPIC
from services.common.lifecycle import Backoff, Phases, until
from services.common.messages import MessageError
from services.common.outage import Link
from services.verifier import consumer as clients
from services.verifier.admission import admit
from services.verifier.commits import Commits
from services.verifier.dead_letter import Letter
from services.verifier.handover import Handover
from services.verifier.metrics import VerifierMetrics
from services.verifier.offsets import Offsets
from services.verifier.pump import Pump
from services.verifier.sessions import Arrival, Sessions
from services.verifier.settings import VerifierSettings
from services.verifier.turns import Turns

PROBE_SECONDS = 3.0
GUARD_SECONDS = 0.5
LOG_APPEND_TIME = 1  # Kafka's number of this kind of timestamp
LEAVE_SECONDS = 5.0
START_SECONDS = 5.0  # of joining the group, until the question is asked whether that can work


class LostConsumerError(KafkaError):  # type: ignore[misc]  # aiokafka has no types
    """The client does not come back by itself."""


class Intake:
    """One consumer at a time, built anew after an error it cannot recover from and when it makes no progress."""

    def __init__(
        self,
        settings: VerifierSettings,
        offsets: Offsets,
        sessions: Sessions,
        pump: Pump,
        links: tuple[Link, Link],
        metrics: VerifierMetrics,
        keyring: Keyring,
    ) -> None:
        self._settings = settings
        self._offsets = offsets
        self._sessions = sessions
        self._pump = pump
        self._kafka, _ = links
        self._metrics = metrics
        self._keyring = keyring
        self._commits = Commits(offsets, settings.commit_interval_ms / 1000)
        self._handover = Handover(offsets, sessions, pump, self._commits, links, metrics, settings.drain_seconds)
        self._draining = False
        self._told_of_clocks = False
        self._turns = Turns()
        self._polled = 0.0  # monotonic seconds of the last time that the poll loop came round; 0 while there is none
        self._log = structlog.get_logger()

    def stalled(self) -> float:
        """Seconds since the poll loop last came round, while Kafka answers and no rebalance keeps it; else 0."""
        if not self._polled or not self._kafka.up or self._handover.waiting():
            return 0.0
        return time.monotonic() - self._polled

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until ``stop``, then drain within the budget, commit and leave the group."""
        backoff = Backoff()
        while not stop.is_set():
            consumer = clients.build(self._settings, self._handover)
            try:
                if await self._start(consumer, stop):
                    backoff.reset()
                    await self._serve(consumer, stop)
            except LostConsumerError as error:
                self._metrics.rebuilt.inc()
                self._log.error("the consumer is built anew", error=str(error))
            except (KafkaError, OSError) as error:
                await self._complain(error)
            finally:
                await self._leave(consumer)
            if not stop.is_set():
                await backoff.sleep()

    async def _start(self, consumer: AIOKafkaConsumer, stop: asyncio.Event) -> bool:
        """Whether it has joined the group; not, if ``stop`` came first."""
        starting, stopping = asyncio.ensure_future(consumer.start()), asyncio.ensure_future(stop.wait())
        try:
            end = time.monotonic() + clients.rebalance_seconds(self._settings) + START_SECONDS
            while time.monotonic() < end:
                done, _ = await asyncio.wait({starting, stopping}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if starting in done:
                    starting.result()
                    self._kafka.good()
                    return True
                if stopping in done:
                    return False
                if reason := await clients.explain(self._settings):  # it waits for ever for a topic that does not exist
                    self._kafka.bad(reason)
            raise LostConsumerError("it did not join the group in time")
        finally:
            stopping.cancel()
            starting.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)

    async def _serve(self, consumer: AIOKafkaConsumer, stop: asyncio.Event) -> None:
        self._commits.consumer = consumer
        self._polled = time.monotonic()
        work = [self._poll(consumer), self._guard(), self._probe(consumer), self._commits.run()]
        tasks = [asyncio.create_task(coroutine) for coroutine in work]
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            _raise_first(tasks)
            await self._finish(consumer, tasks[0])
        finally:
            for task in (stopping, *tasks):
                task.cancel()
            await asyncio.gather(stopping, *tasks, return_exceptions=True)

    async def _finish(self, consumer: AIOKafkaConsumer, polling: asyncio.Task[None]) -> None:
        """The orderly stop. Polling goes on until what has been read is done: it keeps the membership."""
        phases = Phases(self._settings.drain_seconds)
        reserve = min(2.0, self._settings.drain_seconds / 4)  # for the last commit and for leaving
        with phases.phase("pause"):
            self._draining = True
            consumer.pause(*consumer.assignment())
        with phases.phase("drain"):
            await until(lambda: polling.done() or (self._pump.idle and not self._offsets.queued), phases.left - reserve)
        with phases.phase("store"):
            stored = await until(lambda: polling.done() or not self._offsets.unfinished, max(0.0, phases.left - reserve))
        if not stored:
            self._log.warning("drain budget is over; the rest will be redelivered", messages=self._offsets.unfinished)
        with phases.phase("commit"):
            await self._commits.commit(max(0.5, phases.left / 2))
        with phases.phase("leave"):
            await self._leave(consumer, max(0.5, phases.left))

    async def _leave(self, consumer: AIOKafkaConsumer, seconds: float = LEAVE_SECONDS) -> None:
        if self._commits.consumer is consumer:
            self._polled = 0.0
            await self._sessions.fence(self._offsets.partitions)
            await self._commits.commit(min(1.0, seconds))
            self._commits.consumer = None
            self._handover.leave()
        failure = await clients.put_away(consumer, seconds)
        if failure is not None:
            self._log.info("left the group without a goodbye", error=type(failure).__name__)

    # -- reading ------------------------------------------------------------------------------------------------------

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        """Full or not, it polls: that keeps the membership."""
        paused = False
        while True:
            room = self._room(paused)
            paused = not room
            self._switch(consumer, paused)
            for record in await self._turns.read(consumer, room):
                self._take(record)
            self._polled = time.monotonic()
            await asyncio.sleep(0)

    def _room(self, paused: bool) -> int:
        """How many messages may be read now: 0 when full, and then until it is half empty."""
        settings, offsets = self._settings, self._offsets
        scale = 0.5 if paused else 1.0
        queued = offsets.unfinished
        self._metrics.queued.set(queued)
        oldest = offsets.oldest
        self._metrics.oldest_age.set(0.0 if oldest is None else max(0.0, time.time() - oldest))
        room = int(settings.max_queued * scale) - queued
        if self._draining or room <= 0 or offsets.unfinished_bytes >= settings.max_queued_bytes * scale:
            return 0
        return settings.max_queued - queued

    @staticmethod
    def _switch(consumer: AIOKafkaConsumer, paused: bool) -> None:
        if paused:
            consumer.pause(*(consumer.assignment() - consumer.paused()))  # also those assigned meanwhile
        else:
            consumer.resume(*consumer.paused())

    def _take(self, record: ConsumerRecord) -> None:
        value = record.value or b""
        appended = self._appended(record)
        ticket = self._offsets.deliver(record.partition, record.offset, len(value), appended)
        letter = Letter(record.key, value, record.partition, record.offset)
        try:
            admitted = admit(self._keyring, record.headers, record.key, letter.value)
        except MessageError as error:
            self._sessions.set_aside(letter, ticket, str(error))
            return
        arrival = Arrival(admitted.message, admitted.identity, letter, ticket, appended, admitted.schema)
        self._sessions.push(arrival)

    def _appended(self, record: ConsumerRecord) -> float:
        """When the broker took a message, in seconds of the epoch; now, where the topic stamps the devices' clocks instead."""
        if record.timestamp_type == LOG_APPEND_TIME or self._settings.embedded:  # embedded: all on one machine, one clock
            return float(record.timestamp / 1000) if record.timestamp and record.timestamp > 0 else time.time()
        if not self._told_of_clocks:
            self._told_of_clocks = True
            self._log.warning(
                "the topic stamps the devices' clocks: waiting in it does not count; `sluice topics create --alter` repairs it"
            )
        return time.time()

    # -- watching -----------------------------------------------------------------------------------------------------

    async def _guard(self) -> None:
        """aiokafka can leave a consumer for dead and tell nobody (its issues 720, 764, 1187)."""
        while True:
            await asyncio.sleep(GUARD_SECONDS)
            waiting, silent = self._handover.waiting(), time.monotonic() - self._polled
            if waiting > clients.rebalance_seconds(self._settings):
                raise LostConsumerError(f"without partitions for {waiting:.0f} s after it gave them up")
            if not waiting and silent > self._settings.watchdog_seconds / 2:
                raise LostConsumerError(f"its poll did not return for {silent:.0f} s")

    async def _probe(self, consumer: AIOKafkaConsumer) -> None:
        """aiokafka reconnects by itself and tells nobody: ask, so that readiness and the log tell the truth."""
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            partitions = consumer.partitions_for_topic(CANDIDATES_TOPIC) or ()
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    if not partitions:
                        raise LostConsumerError("the topic has gone")
                    await consumer.end_offsets([TopicPartition(CANDIDATES_TOPIC, min(partitions))])
            except (KafkaError, OSError, TimeoutError) as error:
                await self._complain(error)
            else:
                self._kafka.good()
                if (lag := await clients.unread(consumer)) is not None:
                    self._metrics.lag.set(lag)

    async def _complain(self, error: BaseException) -> None:
        """With the cause, which may be another one than at first: readiness tells it."""
        self._kafka.bad(await clients.explain(self._settings, error))


def _raise_first(tasks: Collection[asyncio.Task[None]]) -> None:
    """Whatever has ended one of ``tasks``; a client's own task that was cancelled under our hands counts as an error too."""
    for task in tasks:
        if task.done():
            if task.cancelled():
                raise LostConsumerError("the client was cancelled from within")
            task.result()
