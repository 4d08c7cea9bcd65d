"""A verifier's rounds, from the admitted message to the verdict in Redis, with its real meters or with none."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.cli.bench.overhead.beside import Beside
from services.cli.bench.overhead.stopwatch import Silent, Stopwatch, each
from services.common import codec, keys
from services.common.credentials import Credential, Keyring, Signer
from services.common.energy.counter import JoulesCounter
from services.common.energy.profiles import Server, load
from services.common.energy.supply import Supply
from services.common.messages import CandidateBatch, Message, Open, Status, Verdict, decode, encode
from services.common.outage import Link
from services.common.redis_client import Client
from services.common.sampling import Sampling
from services.common.speculative import SpanToken, Sparse
from services.common.telemetry import Telemetry
from services.common.tracing import Tracer, Untraced
from services.verifier.admission import admit
from services.verifier.budget import Budgets, Rate
from services.verifier.dead_letter import Letter
from services.verifier.energy import COMPONENTS, PassEnergy
from services.verifier.handler import RoundHandler
from services.verifier.metrics import VerifierMetrics
from services.verifier.model import Ready
from services.verifier.offsets import Offsets
from services.verifier.pump import Pump
from services.verifier.replies import Replies
from services.verifier.scheduler import Limits, Scheduler
from services.verifier.sessions import Arrival
from services.verifier.slots import SlotTable
from services.verifier.store import ContextStore, Lifetimes
from services.verifier.thread import EngineThread

BARE, METERED, TRACED, WATCHED = "bare", "metered", "traced", "watched"
MASTERS = {1: bytes(range(32))}
PROMPT_TOKENS, SPAN_TOKENS, CANDIDATES, ENTRIES = 64, 12, 4, 32
TTL_MS = 600_000
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
_NO_LIMIT = Rate(0, 1)


@dataclass
class Judged:
    """``seconds`` of processor time of this process."""

    seconds: float
    rounds: int


class _Half:
    """Handler and pump over an engine that others use too, never at the same time."""

    def __init__(
        self,
        ready: Ready,
        slots: SlotTable,
        thread: EngineThread,
        store: ContextStore,
        metrics: VerifierMetrics,
        telemetry: Telemetry,
        energy: PassEnergy | None,
        sessions: int,
        tracer: Tracer,
    ) -> None:
        scheduler = Scheduler(Limits(sessions, 4096, 512, sessions))
        self.pump = Pump(thread, ready.engine, scheduler, slots, metrics, energy)
        self.handle = RoundHandler(
            ready.target,
            store,
            Replies(store, Link("redis", telemetry), metrics),
            self.pump,
            Budgets(_NO_LIMIT, _NO_LIMIT),
            metrics,
            remembered=4 * sessions,
            context_bytes=65_536,
            tracer=tracer,
        )
        self.metrics = metrics
        self.task: asyncio.Task[None] | None = None


class VerifierSide:
    """``sessions`` devices at once, each waiting for its verdict before it sends its next round."""

    def __init__(
        self, ready: Ready, slots: SlotTable, thread: EngineThread, client: Client, sessions: int, tracer: Tracer | None = None
    ) -> None:
        self._client, self._sessions, self._ready = client, sessions, ready
        self.telemetry = Telemetry()
        self.metrics = VerifierMetrics(self.telemetry.registry)
        joules = JoulesCounter(self.telemetry.registry, COMPONENTS)
        self.energy = PassEnergy(Supply(), load(Server, "cpu"), joules.add)
        store = ContextStore(client, Lifetimes(600_000, 600_000, 1000))
        silent, self.watch = VerifierMetrics(Telemetry().registry), Stopwatch()
        each(silent, lambda meter: Silent())
        watched = VerifierMetrics(Telemetry().registry)
        each(watched, self.watch.around)
        self._keyring, self._offsets = Keyring(MASTERS), Offsets()

        def half(metrics: VerifierMetrics, energy: PassEnergy | None, tracing: Tracer | None = None) -> _Half:
            return _Half(ready, slots, thread, store, metrics, self.telemetry, energy, sessions, tracing or Untraced())

        self._halves = {
            BARE: half(silent, None),
            METERED: half(self.metrics, self.energy),
            WATCHED: half(watched, self.energy),
        }
        if tracer is not None:
            self._halves[TRACED] = half(self.metrics, self.energy, tracer)

        async def look() -> None:
            await asyncio.to_thread(self.energy.tick)
            self.metrics.lag.set(0)

        self.look = look
        self.beside = Beside(self.telemetry, look)

    @property
    def ways(self) -> list[str]:
        return [way for way in self._halves if way != WATCHED]

    async def judge(self, way: str, rounds: int, seed: int, *, beside_too: bool = True) -> Judged:
        """``rounds`` of each session; the same messages for a ``seed`` whatever the way. Without ``beside_too`` meters are
        called and nothing else."""
        half = self._halves[way]
        half.task = asyncio.create_task(half.pump.run())
        beside = self.beside.running() if beside_too and way not in (BARE, WATCHED) else nullcontext()
        devices = [_Device(self, seed * 1000 + n) for n in range(self._sessions)]
        try:
            async with beside:
                started = time.process_time()
                await asyncio.gather(*(device.run(half, rounds) for device in devices))
                return Judged(time.process_time() - started, rounds * self._sessions)
        finally:
            half.task.cancel()
            await asyncio.gather(half.task, return_exceptions=True)

    async def close(self) -> None:
        await self.beside.close()
        await self._client.aclose()

    def energy_seconds(self, times: int) -> float:
        """Processor time that the account of one pass takes."""
        started = time.thread_time()
        for _ in range(times):
            self.energy.around("verify", lambda: None)
        return (time.thread_time() - started) / times

    async def deliver(self, half: _Half, signer: Signer, key: bytes, message: Message, offset: int) -> None:
        """As the intake does with a record."""
        value = encode(message)
        admitted = admit(self._keyring, signer.headers(key, value), key, value)
        ticket = self._offsets.deliver(0, offset, len(value))
        if not Offsets.start(ticket):
            raise RuntimeError("the partition has moved")
        arrival = Arrival(
            admitted.message, admitted.identity, Letter(key, value, 0, offset), ticket, time.time(), admitted.schema
        )
        oldest = self._offsets.oldest
        half.metrics.queued.set(self._offsets.unfinished)
        half.metrics.oldest_age.set(0.0 if oldest is None else max(0.0, time.time() - oldest))
        reason = await half.handle(arrival)
        Offsets.finish(ticket)
        if reason is not None:
            raise RuntimeError(f"a message of the measurement was refused: {reason}")

    async def verdict(self, worker: str) -> Verdict:
        """The newest one for ``worker``."""
        found: Any = await self._client.xrevrange(keys.replies(worker), count=1)
        message = decode(found[0][1][b"v"])
        if not isinstance(message, Verdict) or message.status is not Status.OK:
            raise RuntimeError("a round of the measurement got no verdict")
        return message

    @property
    def vocabulary(self) -> int:
        return self._ready.target.vocabulary

    @property
    def tokenizer_hash(self) -> str:
        return self._ready.target.tokenizer_hash


class _Device:
    """One session. What it drafts is random: what is measured does not depend on its sense."""

    _offset = 0

    def __init__(self, side: VerifierSide, seed: int) -> None:
        self._side, self._random = side, random.Random(seed)
        self._signer = Signer(Credential.issue(MASTERS, 1, "bench"), f"bench.{secrets.token_hex(4)}")
        self._session = secrets.token_bytes(16)
        self._ids = [self._random.randrange(5, side.vocabulary) for _ in range(PROMPT_TOKENS)]
        self._seed = seed

    async def run(self, half: _Half, rounds: int) -> None:
        opening = Open(
            session=self._session,
            ids=codec.pack_ids(self._ids),
            prompt_tokens=len(self._ids),
            sampling=Sampling(),
            seed=self._seed,
            tokenizer_hash=self._side.tokenizer_hash,
            traceparent=PARENT,
            generation=0,
        )
        await self._send(half, opening)
        for number in range(rounds):
            span = self._span()
            batch = CandidateBatch(
                session=self._session,
                round=number,
                attempt=0,
                base_length=len(self._ids),
                base_digest=codec.base_digest(self._ids),
                span=codec.pack_span(span),
                ttl_ms=TTL_MS,
            )
            await self._send(half, batch)
            verdict = await self._side.verdict(self._signer.worker)
            self._ids += [t.d for t in span[: verdict.kept]] + ([] if verdict.token is None else [verdict.token])

    async def _send(self, half: _Half, message: Message) -> None:
        _Device._offset += 1
        await self._side.deliver(half, self._signer, self._session, message, _Device._offset)

    def _span(self) -> Sequence[SpanToken]:
        """Skipped tokens, then candidates with a flat ``x``: the last ones of a span, as a gate sends them."""
        ids = self._random.sample(range(5, self._side.vocabulary), SPAN_TOKENS + ENTRIES)
        skipped = [SpanToken(d, 0.9) for d in ids[: SPAN_TOKENS - CANDIDATES]]
        candidates = []
        for n in range(CANDIDATES):
            own = np.array([ids[SPAN_TOKENS - 1 - n], *ids[SPAN_TOKENS:]][:ENTRIES])
            x = Sparse.cut(own, np.full(len(own), 1.0 / len(own)), ENTRIES)
            candidates.append(SpanToken(int(own[0]), x.of(int(own[0])), x))
        return [*skipped, *candidates]
