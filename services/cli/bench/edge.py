"""The edge's half inside the measuring process: the real draft model, gate, session loop and Kafka + Redis client, without
HTTP."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.cli.bench.damage import Pair
from services.common import codec
from services.common.credentials import Credential, Signer
from services.common.lm.engine import CausalEngine
from services.common.lm.loading import LoadedModel
from services.common.messages import Mode, Verdict
from services.common.sampling import Sampling
from services.edge_worker.answer import AnswerRequest, AnswerStats, OnOutage
from services.edge_worker.breaker import Breaker
from services.edge_worker.draft import ModelDrafter
from services.edge_worker.gate import Gate
from services.edge_worker.kafka_client import KafkaRedisClient
from services.edge_worker.session import Observer, Session, Worker
from services.edge_worker.signals import Signal
from services.edge_worker.transcript import Flight

PREFILL_TOKENS = 256
DEADLINE_SECONDS = 120.0


@dataclass(frozen=True)
class Rounds:
    """How a run asks: ``threshold`` of the signal (0 asks about every token), candidates, limits of a span."""

    mode: Mode
    threshold: float
    k: int
    span_tokens: int = 32
    wait_tokens: int = 8
    risk: float = 0.8
    ahead: bool = True
    slm_only: bool = False


@dataclass
class Run:
    """One answer: its ids, seconds from asking to the last token, account, and (uncertainty, audit) of skipped tokens."""

    ids: list[int]
    seconds: float
    stats: AnswerStats
    pairs: list[Pair] = field(default_factory=list)


class _Pairs(Observer):
    def __init__(self) -> None:
        self.pairs: list[Pair] = []

    def round(self, flight: Flight, verdict: Verdict, seconds: float) -> None:
        skipped = [t.u for t in flight.span[: verdict.kept] if not t.judged]
        self.pairs += list(zip(skipped, codec.unpack_audits(verdict.audits), strict=True))


class Edge:
    """One worker with one session at a time."""

    def __init__(
        self,
        draft: LoadedModel,
        *,
        credential: Credential,
        bootstrap: str,
        redis_url: str,
        target: str,
        context_tokens: int,
        entries: int,
    ) -> None:
        self._draft = draft
        self._target = target
        engine = CausalEngine(draft.model, slots=1, capacity_tokens=context_tokens + PREFILL_TOKENS)
        self._drafter = ModelDrafter(
            engine, vocabulary=draft.vocabulary, signal=Signal.ONE_MINUS_MAX, entries=entries, prefill_tokens=PREFILL_TOKENS
        )
        self._client = KafkaRedisClient(
            signer=Signer(credential, credential.group), bootstrap=bootstrap, redis=redis_url, link_seconds=10.0
        )

    async def start(self) -> None:
        await self._client.start()

    async def close(self) -> None:
        await self._client.close()
        self._drafter.close()

    @property
    def connected(self) -> bool:
        return self._client.connected

    async def write(self, prompt: Sequence[int], rounds: Rounds, *, max_tokens: int, sampling: Sampling, seed: int) -> Run:
        """One answer; raises ``OutageError`` where a verdict is missing."""
        pairs = _Pairs()
        worker = Worker(
            drafter=self._drafter,
            client=self._client,
            breaker=Breaker(),
            gate=Gate(Signal.ONE_MINUS_MAX, rounds.threshold),
            end_ids=self._draft.end_ids,
            tokenizer_hash=self._draft.tokenizer_hash,
            target=self._target,
            span_tokens=rounds.span_tokens,
            wait_tokens=rounds.wait_tokens,
            risk=rounds.risk,
            audit_rate=0.0 if rounds.slm_only else 1.0,  # the small model alone is timed without
            wait_seconds=DEADLINE_SECONDS,
            observer=pairs,
            ahead=rounds.ahead,
        )
        slot = self._drafter.acquire()
        if slot is None:
            raise RuntimeError("one answer at a time")
        request = AnswerRequest(
            prompt_ids=list(prompt),
            max_tokens=max_tokens,
            sampling=sampling,
            seed=seed,
            mode=rounds.mode,
            k=rounds.k,
            gamma=0.0 if rounds.threshold == 0.0 else 1.0,
            deadline_seconds=DEADLINE_SECONDS,
            on_outage=OnOutage.ERROR,
            slm_only=rounds.slm_only,
        )
        started = time.monotonic()
        session = Session(request, worker, slot)
        ids = [token.id async for token in session]
        return Run(ids, time.monotonic() - started, session.stats, pairs.pairs)
