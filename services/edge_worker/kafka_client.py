"""``VerifierClient`` over Kafka (uploads) and a Redis stream (verdicts).

Both links may be down at any time, also at the start: a background task connects each and connects it again, and meanwhile
uploads fail at once with ``LinkDown``. Each verdict goes to the queue of its session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from services.common import keys
from services.common.credentials import Signer
from services.common.kafka.link import KafkaLink
from services.common.messages import Cancel, CandidateBatch, Message, MessageError, Open, Verdict, decode, encode
from services.common.policy_reader import PolicyReader
from services.common.redis_client import Client, RedisLink, addresses, connect
from services.edge_worker.producer import Producer
from services.edge_worker.replies import ReplyReader
from services.edge_worker.verifier_client import LinkDown, Lost

REDIS_TIMEOUT_SECONDS = 4.0

log = structlog.get_logger()


class KafkaRedisClient:
    """``link_seconds`` bounds how long one message may take to reach the broker. ``on_unknown`` is called for each verdict
    that no session waits for. ``policy`` is kept up to date from Redis."""

    def __init__(
        self,
        *,
        signer: Signer,
        bootstrap: KafkaLink | str,
        redis: RedisLink | str,
        link_seconds: float,
        on_unknown: Callable[[], None] = lambda: None,
        policy: PolicyReader | None = None,
    ) -> None:
        self._signer = signer
        link = KafkaLink(bootstrap) if isinstance(bootstrap, str) else bootstrap
        self._producer = Producer(link, topic=keys.CANDIDATES_TOPIC, name=signer.worker, seconds=link_seconds)
        self._redis: Client = connect(redis, connections=2, timeout_seconds=REDIS_TIMEOUT_SECONDS)
        self._queues: dict[bytes, asyncio.Queue[Verdict | Lost]] = {}
        self._replies = ReplyReader(self._redis, keys.replies(signer.worker), self._hand_over, lambda: bool(self._queues))
        self._on_unknown = on_unknown
        self._policy = policy
        self._tasks: list[asyncio.Task[None]] = []

    # -- life cycle ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to connect; returns at once."""
        self._tasks = [asyncio.create_task(self._producer.run()), asyncio.create_task(self._replies.run())]
        if self._policy is not None:
            self._tasks.append(asyncio.create_task(self._policy.run(self._redis)))

    async def close(self) -> None:
        self._replies.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._producer.close()
        await self._redis.aclose()

    @property
    def connected(self) -> bool:
        """Whether both links worked when last used."""
        return all(self.links().values())

    def links(self) -> dict[str, bool]:
        """Whether each link worked when last used."""
        return {"kafka": self._producer.up, "redis": self._replies.up}

    def peers(self) -> dict[str, list[tuple[str, int]]]:
        """Host and port of whoever each link may lead to: those that the settings name, and those that these have named."""
        return {"kafka": self._producer.brokers(), "redis": addresses(self._redis)}

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
        if not self._replies.up:
            raise LinkDown("redis", "Redis cannot be reached: a verdict could not come back")
        value = encode(message)
        headers = self._signer.headers(key, value)
        await self._producer.send(key, value, headers)
        return len(key) + len(value) + sum(len(name) + len(data) for name, data in headers)

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
