"""Keeps the engine busy: takes the next step from the scheduler, runs it on the engine thread, hands out the results."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from services.common.speculative import Judged
from services.verifier.energy import PassEnergy, SessionEnergy, Spent
from services.verifier.feed import Engine, Pass
from services.verifier.metrics import VerifierMetrics
from services.verifier.scheduler import Chunk, Round, Scheduler
from services.verifier.slots import SlotTable
from services.verifier.thread import EngineThread

T = TypeVar("T")


class ExpiredError(Exception):
    """The round's time to live ended before its turn came."""


class WithdrawnError(Exception):
    """The round was taken out of the queue before its turn came."""


class OverloadedError(Exception):
    """The round would not be judged in time; ``str`` is one line that says why."""


class JudgeError(Exception):
    """The target failed on this very round."""


@dataclass(frozen=True)
class Answer:
    """``started`` in seconds since the epoch, ``seconds`` in the pass. ``spent``: on the session since its last answer."""

    judged: Judged
    started: float
    seconds: float
    spent: Spent | None = None


class Pump:
    """The slot table is read here only while the engine thread is idle: one writer at a time. Without ``energy`` nobody learns
    what a pass has cost."""

    def __init__(
        self,
        thread: EngineThread,
        engine: Engine,
        scheduler: Scheduler,
        slots: SlotTable,
        metrics: VerifierMetrics,
        energy: PassEnergy | None = None,
    ) -> None:
        self._thread = thread
        self._engine = engine
        self._scheduler = scheduler
        self._slots = slots
        self._metrics = metrics
        self._energy = energy
        self._charged = SessionEnergy()
        self._waiting: dict[Round, asyncio.Future[Answer]] = {}
        self._fresh: list[Round] = []
        self._released: list[bytes] = []
        self._wake = asyncio.Event()
        self._progress = time.monotonic()
        self._log = structlog.get_logger()

    def prompt(self, session: bytes, ids: list[int], tenant: str = "") -> None:
        """Feed ``ids`` ahead of the session's next round, when there is time."""
        self._begin()
        self._scheduler.add_prompt(session, ids, time.time(), tenant)
        self._wake.set()

    def release(self, session: bytes) -> None:
        """The session has ended."""
        self._withdraw(session)
        self._released.append(session)
        self._wake.set()

    def waits(self, session: bytes) -> bool:
        """Whether a round of the session waits for its pass: it could still be withdrawn."""
        return self._scheduler.has_round(session)

    def withdraw(self, session: bytes) -> None:
        """Take the session's round back, unless its pass has begun; who waits for it gets ``WithdrawnError``."""
        self._withdraw(session)

    async def judge(self, item: Round) -> Answer:
        """The judgement of a round. Raises ``ExpiredError``, ``OverloadedError``, ``WithdrawnError`` or ``JudgeError``."""
        if reason := self._scheduler.refuse(item, time.time()):
            raise OverloadedError(reason)
        self._begin()
        self._scheduler.add_round(item)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[item] = future
        self._fresh.append(item)
        self._wake.set()
        try:
            return await future
        finally:  # cancelled: the session's next round must find the queue without this one
            if self._scheduler.withdraw(item):
                self._waiting.pop(item, None)

    @property
    def idle(self) -> bool:
        """No round is queued or in a pass."""
        return not self._waiting

    def stalled(self) -> float:
        """Seconds since the last step, while there is something to do; else 0. The engine at work is asked as well."""
        queued = time.monotonic() - self._progress if len(self._scheduler) else 0.0
        return max(queued, self._thread.stalled())

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            for session in self._released:
                self._slots.release(session)
                self._charged.forget(session)
            self._released.clear()
            self._count_lookups()
            step = self._scheduler.take(time.time(), self._slots.valid)
            for item in step.expired:
                self._fail(item, ExpiredError())
            for item in step.late:
                self._fail(item, OverloadedError(f"overloaded: a pass takes about {self._scheduler.pass_seconds:.1f} s"))
            if step.rounds:
                await self._verify(step.rounds)
            elif step.chunks:
                await self._prefill(step.chunks)
            elif not len(self._scheduler):
                self._wake.clear()
            self._metrics.slots_used.set(len(self._slots))
            self._progress = time.monotonic()

    def _begin(self) -> None:
        if not len(self._scheduler):
            self._progress = time.monotonic()

    def _withdraw(self, session: bytes) -> None:
        item = self._scheduler.discard(session)
        if item is not None:
            self._fail(item, WithdrawnError())

    def _count_lookups(self) -> None:
        for item in self._fresh:
            valid = self._slots.valid(item.session, item.base, item.tenant)
            item.missing = len(item.base) - valid
            if valid:
                self._metrics.hits.inc()
            else:
                self._metrics.misses.inc()
                if item.number:
                    self._metrics.rebuilds.inc()
                    self._metrics.rebuilt_tokens.inc(len(item.base))
        self._fresh.clear()

    async def _verify(self, rounds: list[Round]) -> None:
        started, clock = time.time(), time.perf_counter()
        try:
            (judged, cost), spent = await self._run("verify", lambda: self._engine.verify(rounds))
        except Exception as error:  # noqa: BLE001 - whatever the model raises, the other sessions go on
            await self._verify_failed(rounds, error)
            return
        seconds = time.perf_counter() - clock
        self._metrics.batch.observe(len(rounds))
        self._metrics.verify.observe(seconds)
        self._scheduler.took(seconds)
        self._count(cost, "verify", seconds)
        parts: list[Spent | None] = [None] * len(rounds)
        if spent is not None:
            parts[:] = self._charged.verified([r.session for r in rounds], cost.fed, spent)
        for item, result, part in zip(rounds, judged, parts, strict=True):
            future = self._waiting.pop(item)
            if not future.done():
                future.set_result(Answer(result, started, seconds, part))

    async def _verify_failed(self, rounds: list[Round], error: Exception) -> None:
        """Find the round that the pass failed on: each one alone, from an empty slot."""
        self._failed([r.session for r in rounds], error)
        if len(rounds) == 1:
            self._fail(rounds[0], JudgeError(f"the target failed on this round: {type(error).__name__}"))
            return
        for item in rounds:
            await self._verify([item])

    async def _prefill(self, chunks: list[Chunk]) -> None:
        clock = time.perf_counter()
        try:
            cost, spent = await self._run("prefill", lambda: self._engine.prefill(chunks))
        except Exception as error:  # noqa: BLE001 - whatever the model raises, the other sessions go on
            self._failed([c.session for c in chunks], error)
            for chunk in chunks:
                item = self._scheduler.discard(chunk.session)
                if item is not None:
                    self._fail(item, JudgeError(f"the target failed on this session's prefix: {type(error).__name__}"))
            return
        self._count(cost, "prefill", time.perf_counter() - clock)
        if spent is not None:
            self._charged.prefilled([c.session for c in chunks], cost.fed, spent)

    async def _run(self, phase: str, work: Callable[[], T]) -> tuple[T, Spent | None]:
        """``work()`` on the engine thread, and what it cost."""
        energy = self._energy
        if energy is None:
            return await self._thread.run(work), None
        return await self._thread.run(lambda: energy.around(phase, work))

    def _failed(self, sessions: list[bytes], error: Exception) -> None:
        self._metrics.engine_failures.inc()
        self._log.error("a forward pass failed", error=type(error).__name__, sessions=len(sessions))
        self._engine.forget(sessions)

    def _fail(self, item: Round, error: Exception) -> None:
        future = self._waiting.pop(item, None)
        if future is not None and not future.done():
            future.set_exception(error)

    def _count(self, cost: Pass, phase: str, seconds: float) -> None:
        self._metrics.passes.labels(phase).inc(cost.sessions)
        self._metrics.processed.labels(phase).inc(cost.tokens)
        self._metrics.shared.inc(cost.shared)
        self._metrics.busy.inc(seconds)
