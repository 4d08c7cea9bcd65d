"""Messages that nobody can take, set aside with the reason."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from services.common.kafka import KafkaLink, client_options
from services.common.keys import DEAD_LETTER_TOPIC
from services.common.lifecycle import settled
from services.verifier.metrics import VerifierMetrics

MAX_BYTES = 16 * 1024
SEND_SECONDS = 10.0
STOP_SECONDS = 3.0


@dataclass(frozen=True)
class Letter:
    """A raw message and where it came from."""

    key: bytes | None
    value: bytes
    partition: int
    offset: int


class DeadLetters:
    """Sends to the dead-letter topic; its producer is made when the first letter comes.

    A letter that cannot be sent within ten seconds is counted and logged, not kept: it must never stall a partition.
    """

    def __init__(self, kafka: KafkaLink, metrics: VerifierMetrics) -> None:
        self._kafka = kafka
        self._metrics = metrics
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()
        self._log = structlog.get_logger()

    async def send(self, letter: Letter, reason: str) -> None:
        self._metrics.dead_letters.inc()
        headers = [
            ("reason", reason.encode()[:300]),
            ("partition", str(letter.partition).encode()),
            ("offset", str(letter.offset).encode()),
            ("bytes", str(len(letter.value)).encode()),
        ]
        where = {"partition": letter.partition, "offset": letter.offset, "reason": reason}
        try:
            async with asyncio.timeout(SEND_SECONDS):
                producer = await self._ready()
                await producer.send_and_wait(DEAD_LETTER_TOPIC, letter.value[:MAX_BYTES], key=letter.key, headers=headers)
        except (KafkaError, OSError, TimeoutError) as error:
            self._log.error("a dead letter is lost", error=type(error).__name__, **where)
        else:
            self._log.warning("dead letter", **where)

    async def close(self) -> None:
        async with self._lock:
            if self._producer is not None:
                await settled(self._producer.stop(), STOP_SECONDS)
                self._producer = None

    async def _ready(self) -> AIOKafkaProducer:
        async with self._lock:
            if self._producer is None:
                producer = AIOKafkaProducer(**client_options(self._kafka))
                try:
                    await producer.start()
                except BaseException:
                    await settled(producer.stop(), STOP_SECONDS)
                    raise
                self._producer = producer
            return self._producer
