"""Commits, on its own and on demand, the end of what is finished in each partition."""

from __future__ import annotations

import asyncio

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from services.common.keys import CANDIDATES_TOPIC
from services.verifier.offsets import Offsets

COMMIT_SECONDS = 5.0


class Commits:
    """``consumer`` is the one to commit with; None while there is none."""

    def __init__(self, offsets: Offsets, interval_seconds: float) -> None:
        self.consumer: AIOKafkaConsumer | None = None
        self._offsets = offsets
        self._interval_seconds = interval_seconds
        self._log = structlog.get_logger()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._interval_seconds)
            await self.commit()

    async def commit(self, seconds: float = COMMIT_SECONDS) -> bool:
        """Whether all that is finished is now committed.

        During a rebalance or an outage it is not: those messages are delivered again, and answered from the store.
        """
        offsets = self._offsets.to_commit()
        if not offsets:
            return True
        if self.consumer is None:
            return False
        try:
            async with asyncio.timeout(seconds):
                await self.consumer.commit({TopicPartition(CANDIDATES_TOPIC, p): o for p, o in offsets.items()})
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            self._log.info("commit postponed", error=type(error).__name__)
            return False
        self._offsets.committed(offsets)
        return True
