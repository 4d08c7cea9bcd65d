"""Messages that nobody can take, set aside with the reason."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from services.common.kafka.link import KafkaLink, client_options
from services.common.keys import DEAD_LETTER_TOPIC
from services.common.lifecycle import settled
from services.verifier.metrics import VerifierMetrics

MAX_BYTES = 16 * 1024
MAX_KEY_BYTES = 64
SEND_SECONDS = 5.0
PAUSE_SECONDS = 5.0  # after a failure, until one letter tries again; the others are given up at once
STOP_SECONDS = 3.0
IN_FLIGHT = 256  # letters on their way at a time: they travel in batches, and bound the memory
LINGER_MS = 5
LOG_SECONDS = 1.0


@dataclass(frozen=True)
class Letter:
    """A raw message and where it came from; ``worker``: who signed it, where that is known."""

    key: bytes | None
    value: bytes
    partition: int
    offset: int
    worker: str = ""


class DeadLetters:
    """Sends to the dead-letter topic; its producer is made when the first letter comes.

    A letter that cannot be sent within five seconds is counted and logged, not kept, and so are those that come until one
    gets through again: junk must never stall a partition. The log gets a few lines per second at most, with the reasons and how
    often each was given.
    """

    def __init__(self, kafka: KafkaLink, metrics: VerifierMetrics) -> None:
        self._kafka = kafka
        self._metrics = metrics
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._down_until: float | None = None  # monotonic seconds; None: letters get through
        self._probing = False
        self._told: Counter[tuple[str, str]] = Counter()
        self._told_at = 0.0
        self._log = structlog.get_logger()

    async def send(self, letter: Letter, reason: str) -> None:
        """Returns when the broker has the letter, or when it is given up."""
        self._metrics.dead_letters.inc()
        try:
            async with asyncio.timeout(SEND_SECONDS), self._room:
                await self._write(letter, reason)
        except (KafkaError, OSError, TimeoutError) as error:
            self._metrics.dead_letters_lost.inc()
            self._tell(f"lost ({type(error.__cause__ or error).__name__})", reason)
        else:
            self._tell("written", reason)

    async def close(self) -> None:
        self._flush()
        async with self._lock:
            if self._producer is not None:
                await settled(self._producer.stop(), STOP_SECONDS)
                self._producer = None

    async def _write(self, letter: Letter, reason: str) -> None:
        probe = self._down_until is not None
        if self._down_until is not None and (self._probing or time.monotonic() < self._down_until):
            raise _PausedError("the dead-letter topic was not to be had a moment ago")
        self._probing = self._probing or probe
        delivered = False
        try:
            producer = await self._ready()
            key = letter.key[:MAX_KEY_BYTES] if letter.key is not None else None
            value = letter.value[:MAX_BYTES]
            await (await producer.send(DEAD_LETTER_TOPIC, value, key=key, headers=_headers(letter, reason)))
            delivered = True
        finally:
            self._down_until = None if delivered else time.monotonic() + PAUSE_SECONDS
            self._probing = self._probing and not probe

    async def _ready(self) -> AIOKafkaProducer:
        async with self._lock:
            if self._producer is None:
                producer = AIOKafkaProducer(**client_options(self._kafka), linger_ms=LINGER_MS)
                try:
                    await producer.start()
                except BaseException:
                    await settled(producer.stop(), STOP_SECONDS)
                    raise
                self._producer = producer
            return self._producer

    def _tell(self, outcome: str, reason: str) -> None:
        self._told[outcome, reason] += 1
        if time.monotonic() - self._told_at >= LOG_SECONDS or len(self._told) >= IN_FLIGHT:
            self._flush()

    def _flush(self) -> None:
        self._told_at = time.monotonic()
        for (outcome, reason), count in self._told.most_common(10):
            say = self._log.warning if outcome == "written" else self._log.error
            say("dead letters", outcome=outcome, count=count, reason=reason)
        if len(self._told) > 10:
            self._log.warning("dead letters for other reasons", count=sum(c for _, c in self._told.most_common()[10:]))
        self._told.clear()


class _PausedError(KafkaError):  # type: ignore[misc]  # aiokafka has no types
    """Not even tried."""


def _headers(letter: Letter, reason: str) -> list[tuple[str, bytes]]:
    return [
        ("reason", reason[:300].encode()),
        ("partition", str(letter.partition).encode()),
        ("offset", str(letter.offset).encode()),
        ("bytes", str(len(letter.value)).encode()),
        ("worker", letter.worker.encode()),
    ]
