"""Reads from partitions in turn, so that a full one does not starve the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from aiokafka import ConsumerRecord, TopicPartition

POLL_MS = 100
MAX_RECORDS = 64  # in one go: decoding them must not hold the event loop


class Reads(Protocol):
    """What is asked of a consumer (aiokafka's)."""

    def assignment(self) -> frozenset[TopicPartition]: ...

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int, max_records: int
    ) -> Mapping[TopicPartition, list[ConsumerRecord]]: ...


class Turns:
    """aiokafka hands out all that it has fetched of one partition before it turns to the next; here each has its share."""

    def __init__(self) -> None:
        self._turn = 0

    async def read(self, consumer: Reads, room: int) -> list[ConsumerRecord]:
        """At most ``room`` messages; waits for a moment where there are none. It always polls: that keeps the membership."""
        records = await self._shares(consumer, room)
        if records:
            return records
        found = await consumer.getmany(timeout_ms=POLL_MS, max_records=max(1, min(room, MAX_RECORDS)))
        return [record for batch in found.values() for record in batch]

    async def _shares(self, consumer: Reads, room: int) -> list[ConsumerRecord]:
        owned = sorted(consumer.assignment())
        records: list[ConsumerRecord] = []
        if not room or not owned:
            return records
        self._turn += 1
        share = max(1, min(room, MAX_RECORDS) // len(owned))
        for at in range(len(owned)):
            left = min(share, room - len(records))
            if left > 0:
                tp = owned[(self._turn + at) % len(owned)]
                found = await consumer.getmany(tp, timeout_ms=0, max_records=left)
                records += found.get(tp, [])
        return records
