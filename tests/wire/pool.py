"""Verifiers without their consumers: real sessions, handler, pump, synthetic target and Redis; the test plays the topic.

A test says which record is delivered to which verifier, at which place of the topic and how often: what Kafka does now and
then by chance happens here when it is wanted.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from prometheus_client import CollectorRegistry

from services.common import keys
from services.common.codec import base_digest, pack_ids, pack_span
from services.common.credentials import Signer
from services.common.messages import SCHEMA, Cancel, CandidateBatch, Message, Open, Verdict, encode, read
from services.common.outage import Link
from services.common.redis_client import Client
from services.common.speculative import Judged, Row, SpanToken, Sparse, judge
from services.common.synthetic import TOKENIZER_HASH, VOCABULARY, SyntheticLaw
from services.common.telemetry import Telemetry
from services.common.tracing import Tracer
from services.verifier.admission import admit
from services.verifier.budget import Budgets, Rate
from services.verifier.context import Target
from services.verifier.dead_letter import Letter
from services.verifier.handler import RoundHandler
from services.verifier.metrics import VerifierMetrics
from services.verifier.offsets import Offsets
from services.verifier.origin import Origin
from services.verifier.pump import Pump
from services.verifier.replies import Replies
from services.verifier.scheduler import Limits, Scheduler
from services.verifier.sessions import Arrival
from services.verifier.slots import SlotTable
from services.verifier.store import ContextStore, Lifetimes
from services.verifier.synthetic import SyntheticEngine
from services.verifier.thread import EngineThread
from tests import identities

TIMES = Lifetimes(context_ms=60_000, verdict_ms=30_000, replies=1000)
TARGET = Target(TOKENIZER_HASH, VOCABULARY, capacity_tokens=256, max_span_tokens=16)
UNLIMITED = Rate(0, 1)
LAW = SyntheticLaw()


@dataclass(frozen=True)
class Record:
    """A signed record at its place in the topic."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    origin: Origin


class Verifier:
    """One verifier process, as far as the messages of sessions go. Use as an async context manager."""

    def __init__(
        self,
        client: Client,
        *,
        worker: Rate = UNLIMITED,
        tenant: Rate = UNLIMITED,
        slots: int = 4,
        context_bytes: int = 4096,
        target: Target = TARGET,
        tracer: Tracer | None = None,
    ) -> None:
        self.registry = CollectorRegistry()
        self.metrics = VerifierMetrics(self.registry)
        self.store = ContextStore(client, TIMES)
        self.slots = SlotTable(slots)
        self._thread = EngineThread()
        engine = SyntheticEngine(LAW, self.slots)
        self.pump = Pump(self._thread, engine, Scheduler(Limits(4, 256, 64, slots)), self.slots, self.metrics)
        replies = Replies(self.store, Link("redis", Telemetry()), self.metrics)
        self.handler = RoundHandler(
            target,
            self.store,
            replies,
            self.pump,
            Budgets(worker, tenant),
            self.metrics,
            remembered=16,
            context_bytes=context_bytes,
            tracer=tracer,
        )
        self._offsets = Offsets()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.pump.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._thread.close()

    async def take(self, record: Record) -> str | None:
        """Deliver a record; why it goes to the dead letters, or None. Raises ``MessageError`` where it is not admitted."""
        admitted = admit(identities.keyring(), record.headers, record.key, record.value)
        ticket = self._offsets.deliver(record.origin.partition, record.origin.offset)
        letter = Letter(record.key, record.value, record.origin.partition, record.origin.offset)
        arrival = Arrival(admitted.message, admitted.identity, letter, ticket, time.time(), admitted.schema)
        return await self.handler(arrival)

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0

    @property
    def passes(self) -> float:
        """Sessions' parts of passes that judged."""
        return self.count("sluice_passes_total", phase="verify")


class Device:
    """One edge worker with one session: writes its records and reads its reply stream."""

    def __init__(self, client: Client, ids: Sequence[int] = (1, 2, 3), signer: Signer | None = None) -> None:
        self.redis: Any = client
        self.signer = signer or identities.signer(f"dev.{secrets.token_hex(4)}")
        self.signer_tag = f"{self.signer.worker}\0".encode()
        self.session = secrets.token_bytes(16)
        self.ids = list(ids)
        self._last = "0"
        self._offset = 100

    @property
    def worker(self) -> str:
        return self.signer.worker

    def record(self, message: Message | bytes, *, origin: Origin | None = None, schema: int = SCHEMA) -> Record:
        """At the next place of partition 0, unless ``origin`` says where."""
        value = message if isinstance(message, bytes) else encode(message, schema)
        if origin is None:
            self._offset += 1
            origin = Origin(0, self._offset)
        return Record(self.session, value, self.signer.headers(self.session, value), origin)

    def opening(self, generation: int | None = 0, **changes: Any) -> Open:
        fields: dict[str, Any] = {
            "session": self.session,
            "ids": pack_ids(self.ids),
            "prompt_tokens": len(self.ids),
            "seed": 7,
            "tokenizer_hash": TOKENIZER_HASH,
            "generation": generation,
        }
        return Open(**(fields | changes))

    def batch(self, span: Sequence[SpanToken] = (), *, round_: int = 0, attempt: int = 0, **changes: Any) -> CandidateBatch:
        fields: dict[str, Any] = {
            "session": self.session,
            "round": round_,
            "attempt": attempt,
            "base_length": len(self.ids),
            "base_digest": base_digest(self.ids),
            "span": pack_span(span),
            "ttl_ms": 60_000,
        }
        return CandidateBatch(**(fields | changes))

    def cancel(self) -> Cancel:
        return Cancel(session=self.session)

    def expected(self, span: Sequence[SpanToken] = (), round_: int = 0) -> Judged:
        """What the synthetic target says to this round, by the pure functions alone."""
        prefixes = [[*self.ids, *(t.d for t in span[:n])] for n in range(len(span) + 1)]
        rows: list[Row] = [LAW(prefix).astype("float32") for prefix in prefixes]
        return judge(list(span), rows, seed=7, start=len(self.ids), round_=round_, want_bonus=True)

    def commit(self, verdict: Verdict, span: Sequence[SpanToken] = ()) -> None:
        """As the edge does with an ``ok`` verdict."""
        self.ids += [t.d for t in span[: verdict.kept]] + ([] if verdict.token is None else [verdict.token])
        assert (verdict.base_length, verdict.base_digest) == (len(self.ids), base_digest(self.ids))

    async def versions(self) -> list[tuple[Verdict, int]]:
        """The verdicts on this session that came since last asked, with their schema versions."""
        found = []
        for entry, fields in await self.redis.xrange(
            keys.replies(self.worker), min=f"({self._last}" if self._last != "0" else "-"
        ):
            self._last = entry.decode()
            message, schema = read(fields[b"v"])
            assert isinstance(message, Verdict)
            if message.session == self.session:
                found.append((message, schema))
        return found

    async def verdicts(self) -> list[Verdict]:
        return [verdict for verdict, _ in await self.versions()]

    async def verdict(self) -> Verdict:
        (verdict,) = await self.verdicts()
        return verdict


def greedy(*ids: int) -> list[SpanToken]:
    """Candidates that the device was certain of."""
    return [SpanToken(d, 1.0, Sparse.certain(d)) for d in ids]
