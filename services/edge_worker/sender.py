"""What one session sends, in order: its opening, its rounds, its cancellation. Sending never holds up drafting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from services.common import codec
from services.common.messages import Cancel, CandidateBatch, Open
from services.edge_worker.answer import AnswerRequest, AnswerStats
from services.edge_worker.tracing import AnswerTrace
from services.edge_worker.transcript import Flight
from services.edge_worker.verifier_client import LinkDown, Lost
from services.edge_worker.worker import Worker


class Sender:
    """``base`` arguments are the committed ids of prompt and answer. Payload bytes are added to ``stats``.

    ``opened``: whether a verifier was told of the session; set it to false where its base may have moved on without us:
    the next round then sends all ids again. A round that cannot be handed over comes back as ``Lost`` on the queue of verdicts.
    """

    def __init__(
        self,
        session: bytes,
        request: AnswerRequest,
        stats: AnswerStats,
        worker: Worker,
    ) -> None:
        self.opened = False
        self.events = worker.client.verdicts(session)
        self.trace = AnswerTrace(worker.tracer, session, worker.clock, request.traceparent)
        self._session, self._request, self._stats = session, request, stats
        self._worker, self._client = worker, worker.client
        self._generation = 0
        self._announcing: asyncio.Task[None] | None = None
        self._delivering: asyncio.Task[None] | None = None

    def announce(self, base: Sequence[int]) -> None:
        """Publish ``Open`` ahead of the first round, so that the verifier prefills while the device drafts."""
        self._announcing = asyncio.create_task(self._announce(list(base)))

    def submit(self, flight: Flight, base: Sequence[int], policy_version: int = 0) -> None:
        """Upload the round in flight; ``policy_version``: of the policy it followed. What is still being sent of an earlier
        one, which was given up, is not waited for."""
        request = self._request
        batch = CandidateBatch(
            session=self._session,
            round=flight.round,
            attempt=flight.attempt,
            base_length=len(base),
            base_digest=codec.base_digest(base),
            span=codec.pack_span([t.on_wire() for t in flight.span]),
            want_bonus=flight.want_bonus,
            policy_version=policy_version,
            ttl_ms=max(1, int(request.deadline_seconds * 1000)),
        )
        if self._delivering is not None:
            self._delivering.cancel()
        flight.uplink_seconds = None
        self._delivering = asyncio.create_task(self._deliver(flight, batch, list(base)))

    async def close(self, *, cancel: bool) -> None:
        """Nothing more will be sent; with ``cancel`` the verifiers may forget the session."""
        self._client.release(self._session)
        tasks = [task for task in (self._announcing, self._delivering) if task is not None and not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if cancel and self.opened:
            self._stats.payload_bytes += await self._client.cancel(Cancel(session=self._session))
        self.trace.end(self._stats)

    async def _announce(self, base: list[int]) -> None:
        with suppress(LinkDown):  # the round that needs it opens again and counts the cause
            await self._open(base)

    async def _open(self, base: list[int]) -> None:
        request = self._request
        message = Open(
            session=self._session,
            tenant=request.tenant,
            ids=codec.pack_ids(base),
            prompt_tokens=len(request.prompt_ids),
            sampling=request.sampling,
            seed=request.seed,
            mode=request.mode,
            tokenizer_hash=self._worker.tokenizer_hash,
            target=self._worker.target,
            traceparent=self.trace.parent,
            generation=self._generation,
            device_class=self._worker.device_class,
        )
        self._generation += 1  # also where it is not known whether it arrived
        self._stats.payload_bytes += await self._client.open(message)
        self.opened = True

    async def _deliver(self, flight: Flight, batch: CandidateBatch, base: list[int]) -> None:
        if self._announcing is not None and not self._announcing.done():
            await asyncio.wait({self._announcing})
        try:
            if not self.opened:
                await self._open(base)
            self._stats.payload_bytes += await self._client.submit(batch)
            flight.uplink_seconds = self._worker.clock() - flight.sent_at
        except LinkDown as error:
            self.events.put_nowait(Lost(batch.round, batch.attempt, error.cause))
