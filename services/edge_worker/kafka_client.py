"""``VerifierClient`` over Kafka (uploads) and a Redis stream (verdicts).

Both links may be down at any time, also at the start: a background task connects each and connects it again, and meanwhile
uploads fail
at once with ``LinkDown``. One task reads this worker's reply stream and hands each verdict to its session's queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from services.common import keys
from services.common.credentials import Signer
from services.common.kafka import KafkaLink, client_options
from services.common.kafka_check import EDGE_NEEDS, explain
from services.common.lifecycle import Backoff, settled
from services.common.messages import Cancel, CandidateBatch, Message, MessageError, Open, Verdict, decode, encode
from services.common.redis_client import Client, RedisLink, connect
from services.edge_worker.verifier_client import LinkDown, Lost

REDIS_TIMEOUT_SECONDS = 4.0
BLOCK_MS = 1500  # under half of the timeout: an idle read must not look like a dead connection
READ_AT_MOST = 256
STOP_SECONDS = 5.0

log = structlog.get_logger()


class KafkaRedisClient:
    """``link_seconds`` bounds how long one message may take to reach the broker."""

    def __init__(
        self,
        *,
        signer: Signer,
        bootstrap: KafkaLink | str,
        redis: RedisLink | str,
        link_seconds: float,
        on_unknown: Callable[[], None] = lambda: None,
    ) -> None:
        self._signer = signer
        self._kafka = KafkaLink(bootstrap) if isinstance(bootstrap, str) else bootstrap
        self._problem = ""  # with Kafka, in words
        self._finding: asyncio.Task[None] | None = None
        self._link_seconds = link_seconds
        self._redis: Client = connect(redis, connections=2, timeout_seconds=REDIS_TIMEOUT_SECONDS)
        self._producer: AIOKafkaProducer | None = None
        self._queues: dict[bytes, asyncio.Queue[Verdict | Lost]] = {}
        self._on_unknown = on_unknown
        self._tasks: list[asyncio.Task[None]] = []
        self._reading = False
        self._closing = False

    # -- life cycle ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to connect; returns at once."""
        self._tasks = [asyncio.create_task(self._keep_producer()), asyncio.create_task(self._read_replies())]

    async def close(self) -> None:
        self._closing = True  # a blocking read may swallow the cancellation; it ends by itself within BLOCK_MS
        for task in self._tasks:
            task.cancel()
        if self._finding is not None:
            self._finding.cancel()
            self._tasks.append(self._finding)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._producer is not None:
            await settled(self._producer.stop(), STOP_SECONDS)
        await self._redis.aclose()

    @property
    def connected(self) -> bool:
        """Whether both links worked when last used."""
        return self._producer is not None and self._reading

    # -- VerifierClient -----------------------------------------------------------------------------------------------

    def verdicts(self, session: bytes) -> asyncio.Queue[Verdict | Lost]:
        return self._queues.setdefault(session, asyncio.Queue())

    def release(self, session: bytes) -> None:
        self._queues.pop(session, None)

    async def open(self, message: Open) -> int:
        return await self._send(message.session, message)

    async def submit(self, message: CandidateBatch) -> int:
        return await self._send(message.session, message)

    async def cancel(self, message: Cancel) -> int:
        try:
            return await self._send(message.session, message)
        except LinkDown:
            return 0

    async def _send(self, key: bytes, message: Message) -> int:
        if not self._reading:
            raise LinkDown("redis", "Redis cannot be reached: a verdict could not come back")
        producer = self._producer
        if producer is None:
            raise LinkDown("kafka", self._problem or "the Kafka broker has not been reached yet")
        value = encode(message)
        headers = self._signer.headers(key, value)
        try:
            async with asyncio.timeout(self._link_seconds):
                await producer.send_and_wait(keys.CANDIDATES_TOPIC, value, key=key, headers=headers)
        except (KafkaError, OSError, TimeoutError) as error:
            if self._finding is None or self._finding.done():
                self._finding = asyncio.create_task(self._find_cause(error))
            raise LinkDown("kafka", f"the Kafka broker took no message: {type(error).__name__}") from error
        self._problem = ""
        return len(key) + len(value) + sum(len(name) + len(data) for name, data in headers)

    # -- Kafka --------------------------------------------------------------------------------------------------------

    async def _keep_producer(self) -> None:
        backoff = Backoff()
        while not self._closing:
            self._tell(await self._connect())
            if self._producer is not None:
                log.info("kafka connected")
                return
            await backoff.sleep()

    async def _connect(self) -> str:
        """Make the producer, or say why it cannot work."""
        if problem := await explain(self._kafka, EDGE_NEEDS):  # aiokafka would start, and wait for a missing topic for ever
            return problem
        producer = AIOKafkaProducer(
            **client_options(self._kafka),
            client_id=f"sluice-edge-{self._signer.worker}",
            acks=1,
            linger_ms=0,
            request_timeout_ms=int(max(1.0, self._link_seconds) * 1000),
            retry_backoff_ms=100,
        )
        try:
            await producer.start()
        except (KafkaError, OSError) as error:
            await settled(producer.stop(), STOP_SECONDS)
            return await explain(self._kafka, EDGE_NEEDS, error)
        self._producer = producer
        return ""

    async def _find_cause(self, error: Exception) -> None:
        """Beside the answers, which do not wait for it."""
        self._tell(await explain(self._kafka, EDGE_NEEDS, error))

    def _tell(self, problem: str) -> None:
        """One log line for each new cause."""
        if problem and problem != self._problem:
            log.warning("kafka cannot be used; answers go on locally", error=problem)
        self._problem = problem

    # -- Redis --------------------------------------------------------------------------------------------------------

    async def _read_replies(self) -> None:
        backoff = Backoff()
        stream = keys.replies(self._signer.worker)
        last: str | None = None
        while not self._closing:
            try:
                last = await self._position(stream, last)
                if not self._reading:
                    self._reading = True
                    log.info("redis connected")
                while not self._closing:
                    last = await self._read(stream, last)
                    backoff.reset()
            except (RedisError, OSError) as error:
                if self._reading:
                    log.warning("redis cannot be reached; answers go on locally", error=type(error).__name__)
                self._reading = False
                await backoff.sleep()

    async def _position(self, stream: str, last: str | None) -> str:
        """Where to read on: after the newest entry at first; after a fail-over that lost entries, at its end again."""
        newest: Any = await self._redis.xrevrange(stream, count=1)
        end = newest[0][0].decode() if newest else "0-0"
        return end if last is None or _order(end) < _order(last) else last

    async def _read(self, stream: str, last: str) -> str:
        reply: Any = await self._redis.xread({stream: last}, count=READ_AT_MOST, block=BLOCK_MS)
        for entry_id, fields in _entries(reply):
            last = entry_id.decode()
            self._hand_over(fields.get(b"v", b""))
        return last

    def _hand_over(self, data: bytes) -> None:
        try:
            message = decode(data)
        except MessageError as error:
            log.warning("a verdict could not be read", reason=str(error))
            return
        queue = self._queues.get(message.session) if isinstance(message, Verdict) else None
        if queue is None or not isinstance(message, Verdict):
            self._on_unknown()
            return
        queue.put_nowait(message)


def _order(entry_id: str) -> tuple[int, int]:
    left, _, right = entry_id.partition("-")
    return int(left), int(right or 0)


def _entries(reply: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries of one stream, from the RESP2 form (a list of pairs) or the RESP3 form (a mapping)."""
    if not reply:
        return []
    found: Any = next(iter(reply.values())) if isinstance(reply, dict) else reply[0][1]
    if found and isinstance(found[0], list):  # RESP3 as some clients give it: a list of batches
        found = [entry for batch in found for entry in batch]
    return [(entry_id, fields) for entry_id, fields in found]
