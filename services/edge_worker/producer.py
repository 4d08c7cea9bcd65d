"""The uplink to Kafka: an idempotent producer that is kept connected, and given up whole when a message does not get through.

aiokafka's idempotent producer never lets go of a message: after an outage it would send all that had been given up meanwhile,
in front of what matters. So the first message that misses its time takes the producer with it; the next one has a fresh
producer id, which also ends the rarer troubles (a fenced or unknown producer id, sequence numbers out of order).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, TopicAuthorizationFailedError

from services.common.kafka.check import EDGE_NEEDS, explain
from services.common.kafka.link import KafkaLink, client_options
from services.common.lifecycle import Backoff, settled
from services.edge_worker.verifier_client import LinkDown

STOP_SECONDS = 3.0
RETRY_MS = 100
Header = tuple[str, bytes]

log = structlog.get_logger()


class Producer:
    """``seconds`` bounds how long one message may take to reach the broker. All is retried, with jitter, for ever."""

    def __init__(self, link: KafkaLink, *, topic: str, name: str, seconds: float) -> None:
        self._link = link
        self._topic = topic
        self._name = name
        self._seconds = seconds
        self._producer: AIOKafkaProducer | None = None
        self._lost = asyncio.Event()
        self._checked = False  # topic and rights are as they should be
        self._problem = ""  # with Kafka, in words
        self._closing: set[asyncio.Task[BaseException | None]] = set()
        self._finding: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        return self._producer is not None

    def brokers(self) -> list[tuple[str, int]]:
        """Host and port of those of the settings, and of those that these have told of."""
        found = self._producer.client.cluster.brokers() if self._producer is not None else ()
        return [*self._link.addresses, *((broker.host, broker.port) for broker in found)]

    async def run(self) -> None:
        """Connect, and connect again whenever the link is lost, until cancelled."""
        backoff = Backoff(longest=2.0)
        while True:
            self._tell(await self._connect())
            if self._producer is None:
                await backoff.sleep()
                continue
            log.info("kafka connected")
            backoff.reset()
            await self._lost.wait()
            await backoff.sleep()

    async def send(self, key: bytes, value: bytes, headers: Sequence[Header]) -> None:
        """Hand one message over. Raises ``LinkDown``, at once where the link is known to be down."""
        producer = self._producer
        if producer is None:
            raise LinkDown("kafka", self._problem or "the Kafka broker has not been reached yet")
        try:
            async with asyncio.timeout(self._seconds):
                await producer.send_and_wait(self._topic, value, key=key, headers=list(headers))
        except MessageSizeTooLargeError as error:
            raise LinkDown("oversized", f"a message of {len(value)} bytes is more than Kafka takes") from error
        except (KafkaError, OSError, TimeoutError) as error:
            self._give_up(producer, error)
            raise LinkDown("kafka", f"the Kafka broker took no message: {type(error).__name__}") from error
        self._problem = ""

    async def close(self) -> None:
        """After ``run`` has been cancelled: send what is under way and disconnect."""
        if self._finding is not None:
            self._finding.cancel()
            await asyncio.gather(self._finding, return_exceptions=True)
        producer, self._producer = self._producer, None
        if producer is not None and await settled(producer.stop(), STOP_SECONDS) is not None:
            await abandon(producer)
        await asyncio.gather(*self._closing, return_exceptions=True)

    # -- connecting ---------------------------------------------------------------------------------------------------

    async def _connect(self) -> str:
        """Make the producer, or say why it cannot work."""
        if not self._checked:
            if problem := await explain(self._link, EDGE_NEEDS):  # aiokafka would wait for a missing topic for ever
                return problem
            self._checked = True
        producer = AIOKafkaProducer(
            **client_options(self._link),
            client_id=f"sluice-edge-{self._name}",
            enable_idempotence=True,
            acks="all",
            linger_ms=0,
            request_timeout_ms=int(max(1.0, self._seconds) * 1000),
            retry_backoff_ms=RETRY_MS,
        )
        try:
            async with asyncio.timeout(2 * max(1.0, self._seconds)):
                await producer.start()
                await producer.partitions_for(self._topic)
        except (KafkaError, OSError, TimeoutError) as error:
            await abandon(producer)
            self._checked = False
            return await explain(self._link, EDGE_NEEDS, error)
        self._lost.clear()
        self._producer = producer
        return ""

    def _give_up(self, producer: AIOKafkaProducer, error: Exception) -> None:
        """With all that it still holds; whoever waits for any of it hears of it."""
        if self._producer is not producer:
            return  # somebody else's message has done so
        self._producer = None
        self._lost.set()
        self._checked = not isinstance(error, TopicAuthorizationFailedError)
        closing = asyncio.create_task(settled(abandon(producer), 2 * STOP_SECONDS))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        if self._finding is None or self._finding.done():
            self._finding = asyncio.create_task(self._find_cause(error))

    async def _find_cause(self, error: Exception) -> None:
        """Beside the answers, which do not wait for it."""
        self._tell(await explain(self._link, EDGE_NEEDS, error))

    def _tell(self, problem: str) -> None:
        """One log line for each new cause."""
        if problem and problem != self._problem:
            log.warning("kafka cannot be used; answers go on locally", error=problem)
        self._problem = problem


async def abandon(producer: AIOKafkaProducer) -> None:
    """Disconnect without sending what is held, for which aiokafka has no call: its ``stop`` waits until all is sent."""
    producer._closed = True
    tasks = _tasks_of(producer._sender)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=STOP_SECONDS)
    held = producer._message_accumulator
    batches = [*held._pending_batches, *(batch for queue in held._batches.values() for batch in queue)]
    held.fail_all(KafkaError("given up"))
    held._pending_batches.update(batches)  # aiokafka takes each out that had been sent once, also those it had put back
    for batch in batches:
        batch._drain_waiter.exception()  # nobody waits for it: else asyncio complains that it was never looked at
    await settled(producer.client.close(), STOP_SECONDS)


def _tasks_of(sender: object) -> list[asyncio.Task[Any]]:
    """The sender's task, and those that it has made and keeps to itself."""
    found = []
    for task in asyncio.all_tasks():
        frame = getattr(task.get_coro(), "cr_frame", None)
        if sender is not None and frame is not None and frame.f_locals.get("self") is sender:
            found.append(task)
    return found
