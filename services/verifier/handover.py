"""Partitions come and go: drain first, fence second."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition

from services.common.lifecycle import until
from services.common.outage import Link
from services.verifier.commits import Commits
from services.verifier.metrics import VerifierMetrics
from services.verifier.offsets import Offsets
from services.verifier.pump import Pump
from services.verifier.sessions import Sessions

GAP_SECONDS = 1.0
OUTAGE_SECONDS = 1.0  # Redis away: nothing can be stored, so the others of the group are not kept waiting for it


class Handover(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """What a member does when it loses partitions and gets some. An eager rebalance takes all of them, whoever joins or leaves.

    ``drain_seconds`` bounds how long it keeps the group waiting for work that has begun; what has not is for the next owner,
    but for what is older than something that has: that is finished too (within ``GAP_SECONDS``), or the newer one could not
    be committed and would be answered twice.
    """

    def __init__(
        self,
        offsets: Offsets,
        sessions: Sessions,
        pump: Pump,
        commits: Commits,
        links: tuple[Link, Link],
        metrics: VerifierMetrics,
        drain_seconds: float,
    ) -> None:
        self._offsets = offsets
        self._sessions = sessions
        self._pump = pump
        self._commits = commits
        self._kafka, self._redis = links
        self._metrics = metrics
        self._drain_seconds = drain_seconds
        self._since: float | None = None  # monotonic seconds since when this member waits for partitions
        self._owned = 0
        self._log = structlog.get_logger()

    def waiting(self) -> float:
        """Seconds for which a rebalance has been under way here; 0 outside of one."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Drain first, fence second: work that has begun is finished, stored and committed before the partition goes."""
        self._since = time.monotonic()
        partitions = [tp.partition for tp in revoked]
        self._owned = len(partitions)
        given_up = 0
        try:
            until_offset = self._newest_begun(partitions)
            self._offsets.close(partitions, until_offset)
            self._withdraw(partitions, until_offset)
            if not await self._drained(partitions, min(GAP_SECONDS, self._drain_seconds), gaps=True):
                self._offsets.close(partitions)
                self._withdraw(partitions, {})
                await self._drained(partitions, self._drain_seconds, gaps=False)
            await self._commits.commit()
            given_up = await self._sessions.fence(partitions)
        except Exception:  # noqa: BLE001 - aiokafka would swallow it: what is not committed is delivered again
            self._log.exception("handing partitions over failed")
        finally:
            self._offsets.forget(partitions)
            self._metrics.partitions.set(0)
        if partitions:
            seconds = round(time.monotonic() - self._since, 3)
            self._log.info("partitions revoked", partitions=sorted(partitions), drain_seconds=seconds, given_up=given_up)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        pause = self.waiting()
        self._since = None
        if self._owned:
            self._metrics.rebalance_pause.observe(pause)
        self._metrics.partitions.set(len(assigned))
        self._metrics.rebalances.inc()
        self._kafka.good()
        self._log.info("partitions assigned", partitions=sorted(tp.partition for tp in assigned), pause_seconds=round(pause, 3))

    def leave(self) -> None:
        """This member has left: what it had read belongs to others."""
        partitions = self._offsets.partitions
        self._offsets.close(partitions)
        self._offsets.forget(partitions)
        self._since = None
        self._owned = 0
        self._metrics.partitions.set(0)

    def _newest_begun(self, partitions: Collection[int]) -> dict[int, int]:
        """Each partition's last offset that has its effect already or cannot be withdrawn any more."""
        waiting: dict[int, list[int]] = {p: [] for p in partitions}
        for ticket, session in self._sessions.heads(partitions):
            if self._pump.waits(session):
                waiting[ticket.ledger.partition].append(ticket.offset)
        return {p: self._offsets.newest(p, offsets) for p, offsets in waiting.items()}

    def _withdraw(self, partitions: Collection[int], until_offset: Mapping[int, int]) -> None:
        """Take back the rounds that wait, but for those up to ``until_offset`` of their partition."""
        for ticket, session in self._sessions.heads(partitions):
            if ticket.offset > until_offset.get(ticket.ledger.partition, -1):
                self._pump.withdraw(session)

    async def _drained(self, partitions: Collection[int], seconds: float, *, gaps: bool) -> bool:
        """Whether what has begun (with ``gaps``: and what is older) ended in time. Redis, while away, is not waited for."""
        seen = time.monotonic()

        def enough() -> bool:
            nonlocal seen
            if self._redis.up:
                seen = time.monotonic()
            left = self._offsets.running(partitions) or (gaps and self._offsets.gaps(partitions))
            return not left or time.monotonic() - seen > OUTAGE_SECONDS

        return await until(enough, seconds)
