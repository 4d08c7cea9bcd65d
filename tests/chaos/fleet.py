"""Simulated devices: the real edge code (session, sender, breaker, Kafka and Redis client) with the synthetic draft model."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from services.common.credentials import Signer
from services.common.kafka.link import KafkaLink
from services.common.messages import Mode
from services.common.sampling import Sampling
from services.common.synthetic import DRAFT_NOISE, REFERENCE, TOKENIZER_HASH, VOCABULARY, SyntheticLaw
from services.edge_worker.answer import AnswerRequest, AnswerStats, Decision, OnOutage, OutageError
from services.edge_worker.breaker import Breaker, State
from services.edge_worker.draft import Drafter
from services.edge_worker.gate import Gate
from services.edge_worker.kafka_client import KafkaRedisClient
from services.edge_worker.session import Observer, Session, Worker
from services.edge_worker.signals import Signal
from services.edge_worker.synthetic import PacedDrafter

SLOTS = 256
LAW = SyntheticLaw(noise=DRAFT_NOISE)
CONNECT_SECONDS = 30.0
NEVER = float("inf")


@dataclass(frozen=True)
class Habits:
    """How the devices of a fleet work. Times in seconds; ``draft``: one token of the draft model."""

    deadline: float
    draft: float = 0.0
    k: int = 4
    gamma: float = 1.0
    tau_u: float = 0.5
    link: float = 2.0
    ahead: bool = True


@dataclass(frozen=True)
class Model:
    """A real draft model, shared by all devices of a fleet, in place of the synthetic one."""

    drafter: Drafter
    tokenizer_hash: str
    target: str


@dataclass(frozen=True)
class Job:
    """One answer to write."""

    prompt: list[int]
    tokens: int
    seed: int


@dataclass
class Written:
    """One answer as its reader saw it: ids and decisions in order, the second (of the loop's clock) at which each came."""

    job: Job
    begun: float
    ids: list[int] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    rounds: list[int | None] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    stats: AnswerStats = field(default_factory=AnswerStats)
    ended: float = NEVER
    error: str = ""

    @property
    def complete(self) -> bool:
        return not self.error and len(self.ids) == self.job.tokens == self.stats.total and self.stats.finish_reason == "length"

    @property
    def unverified(self) -> int:
        return self.stats.unverified

    def stall(self, begin: float, end: float) -> float | None:
        """The longest pause (seconds) that overlaps the time from ``begin`` to ``end``; ``None`` if it was not running then."""
        times = [self.begun, *self.at]
        pauses = [b - a for a, b in pairwise(times) if a < end and b > begin]
        return max(pauses, default=None)

    def twice(self) -> int:
        """Tokens beyond what the verdicts of distinct rounds can give: a round ends with at most one correction or bonus."""
        last = [r for r, d in zip(self.rounds, self.decisions, strict=True) if d in (Decision.CORRECTED, Decision.BONUS)]
        return len(last) - len(set(last)) + max(0, len(self.ids) - self.job.tokens)


def jobs(count: int, *, tokens: int, prompt: int, seed: int) -> list[Job]:
    """``count`` answers of ``tokens`` tokens to prompts of ``prompt`` ids."""
    draw = random.Random(seed)
    return [Job([draw.randrange(VOCABULARY) for _ in range(prompt)], tokens, draw.randrange(1 << 63)) for _ in range(count)]


@dataclass
class WatchedBreaker(Breaker):
    """Remembers the states it has been in."""

    history: list[State] = field(default_factory=list)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "state" and hasattr(self, "history") and self.history[-1:] != [value]:
            self.history.append(value)


class Device:
    """One edge worker without its HTTP API; any number of answers at a time."""

    def __init__(
        self, signer: Signer, bootstrap: KafkaLink | str, redis_url: str, habits: Habits, model: Model | None = None
    ) -> None:
        self.name = signer.worker
        self.habits = habits
        self.drafter: Drafter = (
            model.drafter if model is not None else PacedDrafter(LAW, slots=SLOTS, step_seconds=habits.draft)
        )
        self.breaker = WatchedBreaker()
        self.client = KafkaRedisClient(signer=signer, bootstrap=bootstrap, redis=redis_url, link_seconds=habits.link)
        self._worker = Worker(
            drafter=self.drafter,
            client=self.client,
            breaker=self.breaker,
            gate=Gate(Signal.ONE_MINUS_MAX, habits.tau_u),
            end_ids=frozenset(),
            tokenizer_hash=model.tokenizer_hash if model is not None else TOKENIZER_HASH,
            target=model.target if model is not None else REFERENCE,
            span_tokens=48,
            wait_tokens=12,
            risk=0.8,
            audit_rate=0.02,
            wait_seconds=30.0,
            observer=Observer(),
            ahead=habits.ahead,
        )

    async def write(self, job: Job) -> Written:
        """The answer, written to its end or its failure."""
        habits, clock = self.habits, asyncio.get_running_loop().time
        request = AnswerRequest(
            prompt_ids=job.prompt,
            max_tokens=job.tokens,
            sampling=Sampling(),
            seed=job.seed,
            mode=Mode.OPPORTUNISTIC,
            k=habits.k,
            gamma=habits.gamma,
            deadline_seconds=habits.deadline,
            on_outage=OnOutage.DEGRADE,
        )
        slot = self.drafter.acquire()
        assert slot is not None, "more answers at once than a device has slots"
        session = Session(request, self._worker, slot)
        written = Written(job, clock(), stats=session.stats)
        try:
            async for token in session:
                written.ids.append(token.id)
                written.decisions.append(token.decision)
                written.rounds.append(token.round)
                written.at.append(clock())
        except OutageError as error:
            written.error = str(error)
        finally:
            await session.aclose()
        written.ended = clock()
        return written

    @property
    def leaks(self) -> int:
        """What an idle device still holds: draft slots and queues of verdicts."""
        return len(self.client._queues) + (SLOTS - self.drafter.free if isinstance(self.drafter, PacedDrafter) else 0)


class Fleet:
    """Use as an async context manager; entering waits until every device has both links. ``keep`` gets each answer."""

    def __init__(
        self,
        signers: Iterable[Signer],
        bootstrap: KafkaLink | str,
        redis_url: str,
        habits: Habits,
        model: Model | None = None,
    ) -> None:
        self.devices = [Device(signer, bootstrap, redis_url, habits, model) for signer in signers]
        self.written: list[Written] = []
        self.keep: Callable[[Written], None] = self.written.append
        self._begun = 0
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Fleet:
        for device in self.devices:
            await device.client.start()
        async with asyncio.timeout(CONNECT_SECONDS):
            while not all(d.client.connected for d in self.devices):  # noqa: ASYNC110 - the client tells nobody
                await asyncio.sleep(0.02)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await asyncio.gather(*(d.client.close() for d in self.devices))

    @property
    def running(self) -> int:
        return len(self._running)

    def begin(self, *some: Job) -> None:
        """Write these answers, each on the next device in turn, now."""
        for job in some:
            device = self.devices[self._begun % len(self.devices)]
            self._begun += 1
            task = asyncio.create_task(self._write(device, job))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def keep_writing(self, answers: int, work: Iterable[Job]) -> None:
        """``answers`` at a time until ``work`` is used up or this is cancelled; then waits for those that run."""
        for job in work:
            while len(self._running) >= answers:
                await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            self.begin(job)
        await self.finish()

    async def finish(self, seconds: float = 300.0) -> None:
        """Wait for all answers that run."""
        async with asyncio.timeout(seconds):
            while self._running:
                await asyncio.wait(set(self._running))

    async def _write(self, device: Device, job: Job) -> None:
        self.keep(await device.write(job))

    @property
    def unverified_share(self) -> float:
        """Unverified tokens / tokens of all answers so far."""
        tokens = sum(len(w.ids) for w in self.written)
        return sum(w.unverified for w in self.written) / max(1, tokens)

    @property
    def breaker_states(self) -> set[State]:
        return {state for d in self.devices for state in d.breaker.history}


def memory_mb() -> float:
    """Resident memory of this process."""
    import psutil

    return psutil.Process(os.getpid()).memory_info().rss / 2**20
