"""The session loop against real handlers, with runs of skipped tokens longer than a span may be."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from services.common.codec import MAX_SPAN_TOKENS
from services.common.messages import Cancel, CandidateBatch, Message, Mode, Open, Status, Verdict
from services.common.sampling import Sampling
from services.common.speculative import SpanToken
from services.common.synthetic import DRAFT_NOISE, TOKENIZER_HASH, SyntheticLaw
from services.edge_worker.answer import AnswerRequest, OnOutage
from services.edge_worker.breaker import Breaker
from services.edge_worker.fakes import TableDrafter
from services.edge_worker.gate import Gate
from services.edge_worker.session import Observer, Session, Worker
from services.edge_worker.signals import Signal
from services.edge_worker.verifier_client import Lost
from tests.wire.pool import TARGET, Device, Verifier

TOKENS = 400
ROOMY = replace(TARGET, capacity_tokens=1024, max_span_tokens=MAX_SPAN_TOKENS)


class Wired:
    """``VerifierClient``: signed records to a verifier of this process, verdicts out of Redis."""

    def __init__(self, device: Device, verifier: Verifier) -> None:
        self._device, self._verifier = device, verifier
        self._queue: asyncio.Queue[Verdict | Lost] = asyncio.Queue()
        self.batches: list[CandidateBatch] = []

    def verdicts(self, session: bytes) -> asyncio.Queue[Verdict | Lost]:
        self._device.session = session
        return self._queue

    def release(self, session: bytes) -> None: ...

    async def open(self, message: Open) -> int:
        return await self._send(message)

    async def submit(self, message: CandidateBatch) -> int:
        self.batches.append(message)
        return await self._send(message)

    async def cancel(self, message: Cancel) -> int:
        return await self._send(message)

    async def _send(self, message: Message) -> int:
        record = self._device.record(message)
        await self._verifier.take(record)
        for verdict in await self._device.verdicts():
            self._queue.put_nowait(verdict)
        return len(record.value)


def session(client: Wired, seed: int) -> Session:
    """One token in 120 is a candidate, by a draw."""
    drafter = TableDrafter(SyntheticLaw(noise=DRAFT_NOISE), entries=32)
    worker = Worker(
        drafter=drafter,
        client=client,
        breaker=Breaker(),
        gate=Gate(Signal.ONE_MINUS_MAX, 0.5, random_rate=1 / 120),
        end_ids=frozenset(),
        tokenizer_hash=TOKENIZER_HASH,
        target="",
        span_tokens=48,
        wait_tokens=12,
        risk=1.0,
        audit_rate=1.0,
        wait_seconds=60.0,
        observer=Observer(),
    )
    asked = AnswerRequest([1, 2, 3], TOKENS, Sampling(), seed, Mode.OPPORTUNISTIC, 2, 1.0, 60.0, OnOutage.DEGRADE)
    slot = drafter.acquire()
    assert slot is not None
    return Session(asked, worker, slot)


async def test_every_candidate_gets_its_verdict(client: Any) -> None:
    ahead = 0
    async with Verifier(client, target=ROOMY) as verifier:
        for seed in range(2):
            wired = Wired(Device(client), verifier)
            answer = session(wired, seed)
            tokens = [token async for token in answer]
            stats = answer.stats
            assert len(tokens) == stats.total == TOKENS
            assert (stats.lost_rounds, stats.unverified, stats.degraded_reason) == (0, 0, "")
            assert stats.judged > 0
            assert stats.audits.audited == stats.skipped
            kinds = [any(t.x is not None for t in batch.tokens()) for batch in wired.batches]
            ahead += sum(not one and True in kinds[at:] for at, one in enumerate(kinds))
    assert ahead > 0


async def test_a_longer_span_is_refused(client: Any) -> None:
    device = Device(client)
    async with Verifier(client, target=ROOMY) as verifier:
        await verifier.take(device.record(device.opening()))
        for count, status in ((MAX_SPAN_TOKENS + 1, Status.INVALID), (MAX_SPAN_TOKENS, Status.OK)):
            await verifier.take(device.record(device.batch([SpanToken(7, 0.5)] * count, want_bonus=False)))
            assert (await device.verdict()).status is status
