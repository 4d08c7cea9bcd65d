"""What is left behind in Kafka and Redis, read by a witness of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from redis.asyncio import Redis

from services.common import keys
from services.common.messages import Status, Verdict, decode

QUIET_SECONDS = 60.0


@dataclass
class Replies:
    """Every verdict in the reply streams."""

    verdicts: list[Verdict] = field(default_factory=list)

    @staticmethod
    async def read(redis: Redis, workers: Iterable[str]) -> Replies:
        found = Replies()
        for worker in workers:
            entries: Any = await redis.xrange(keys.replies(worker))
            for _, fields in entries:
                message = decode(fields[b"v"])
                assert isinstance(message, Verdict)
                found.verdicts.append(message)
        return found

    @property
    def ok(self) -> list[Verdict]:
        return [v for v in self.verdicts if v.status is Status.OK]

    def refused(self) -> dict[str, int]:
        """Verdicts that are not ``ok``, by status."""
        found: dict[str, int] = {}
        for v in self.verdicts:
            if v.status is not Status.OK:
                found[v.status.value] = found.get(v.status.value, 0) + 1
        return found

    def contradictions(self) -> int:
        """Tokens of verdicts that say something else than an earlier verdict of the same round."""
        first: dict[tuple[bytes, int], Verdict] = {}
        tokens = 0
        for v in self.ok:
            before = first.setdefault((v.session, v.round), v)
            if (before.kept, before.token, before.base_digest) != (v.kept, v.token, v.base_digest):
                tokens += v.kept + (v.token is not None)
        return tokens

    def delivered_again(self) -> int:
        """Verdicts of rounds that had been answered already."""
        return len(self.ok) - len({(v.session, v.round) for v in self.ok})


@asynccontextmanager
async def _consumer(bootstrap: str, topic: str, group: str | None = None) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
    )
    await consumer.start()
    try:
        partitions: Any = None
        while not partitions:
            await consumer._client.force_metadata_update()
            partitions = await consumer._client.fetch_all_metadata()
            partitions = partitions.partitions_for_topic(topic)
        consumer.assign([TopicPartition(topic, p) for p in sorted(partitions)])
        yield consumer
    finally:
        await consumer.stop()


async def behind(bootstrap: str, seconds: float = QUIET_SECONDS) -> list[int]:
    """Partitions of the candidates whose committed offset does not reach their end within ``seconds``; none is right."""
    async with _consumer(bootstrap, keys.CANDIDATES_TOPIC, keys.VERIFIER_GROUP) as consumer:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while True:
            ends = await consumer.end_offsets(list(consumer.assignment()))
            late = [tp.partition for tp, offset in ends.items() if (await consumer.committed(tp) or 0) != offset]
            if not late or loop.time() > end:
                return sorted(late)
            await asyncio.sleep(0.1)


@dataclass(frozen=True)
class DeadLetter:
    """One message set aside: where it had been, and why it is here."""

    partition: int
    offset: int
    reason: str
    value: bytes


async def dead_letters(bootstrap: str) -> list[DeadLetter]:
    """All of them, from the beginning of their topic."""
    found: list[DeadLetter] = []
    async with _consumer(bootstrap, keys.DEAD_LETTER_TOPIC) as consumer:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    about = dict(record.headers)
                    where = int(about["partition"]), int(about["offset"])
                    found.append(DeadLetter(*where, about["reason"].decode(), record.value or b""))
    return found
