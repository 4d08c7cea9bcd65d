"""Runs the policy itself and keeps what it did: draft, gate at a threshold, upload, verdict, token by token.

The session loop, the gate, the sampling and the messages are those of the edge worker; only the network is left out. So the
record is of the policy's own trajectories, at each threshold another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from services.calibrate.journal import Journal
from services.calibrate.trace import Answer, Token
from services.common.calibration.files import Policy
from services.common.messages import Mode, Verdict
from services.common.rng import Purpose, key
from services.common.sampling import Sampling
from services.common.speculative import Sparse, rejection
from services.edge_worker.answer import AnswerRequest, OnOutage
from services.edge_worker.breaker import Breaker
from services.edge_worker.draft import Drafter, Step, StepRequest
from services.edge_worker.gate import Gate
from services.edge_worker.session import Observer, Session, Worker
from services.edge_worker.signals import Signal
from services.edge_worker.transcript import Flight
from services.pair.rows import Judging, Row, spread

DEADLINE_SECONDS = 600.0  # nothing is lost in one process; a forward pass may be slow

Signals = Mapping[str, float]
Score = Callable[[Signals], float]  # all signals of a token -> u, for the gate


@dataclass(frozen=True)
class Job:
    """One answer to write. ``ids``: the prompt, template and all."""

    prompt: int
    threshold: float
    ids: Sequence[int]


class Recorder:
    """Writes answers one at a time with a row of a pair.

    ``score``: what the gate compares with the threshold. ``seed``: draws of an answer follow from it and the prompt. Answers
    at several thresholds share them: the loss of a prompt, draws included, is a function of the threshold.
    """

    def __init__(
        self,
        row: Row[Judging],
        *,
        policy: Policy,
        score: Score,
        sampling: Sampling,
        max_tokens: int,
        end_ids: Collection[int],
        seed: int,
    ) -> None:
        self._row, self._judge = row, row.judge
        self._tap = _Tap(row.drafter(Signal.ONE_MINUS_MAX, every=True), score)
        self._policy, self._sampling, self._max_tokens, self._seed = policy, sampling, max_tokens, seed
        self._end_ids = frozenset(end_ids)

    async def write(self, job: Job) -> Answer:
        """One answer, every skipped token of it audited."""
        with self._row.writing():
            return await self._write(job)

    async def _write(self, job: Job) -> Answer:
        log = _Log(self._judge, self._tap)
        slot = self._tap.acquire()
        if slot is None:
            raise RuntimeError("one answer at a time")
        seed = int(key(self._seed, job.prompt, 0, Purpose.GATE))
        request = AnswerRequest(
            prompt_ids=list(job.ids),
            max_tokens=self._max_tokens,
            sampling=self._sampling,
            seed=seed,
            mode=Mode.OPPORTUNISTIC,
            k=self._policy.k,
            gamma=1.0,
            deadline_seconds=DEADLINE_SECONDS,
            on_outage=OnOutage.ERROR,
        )
        session = Session(request, self._worker(job.threshold, log), slot)
        async for _ in session:
            pass
        answer = Answer(job.prompt, job.threshold, seed, len(job.ids), session.stats.total, tuple(log.tokens))
        if answer.skipped != session.stats.skipped or session.stats.unverified:
            raise RuntimeError("a skipped token was not audited, or a candidate not judged: the damage would be wrong")
        return answer

    def _worker(self, threshold: float, log: _Log) -> Worker:
        return Worker(
            drafter=self._tap,
            client=self._judge,
            breaker=Breaker(),
            gate=Gate(Signal.ONE_MINUS_MAX, threshold, answer_level=self._policy.answer_level),
            end_ids=self._end_ids,
            tokenizer_hash="",
            target="",
            span_tokens=self._policy.span_tokens,
            wait_tokens=self._policy.wait_tokens,
            risk=self._policy.risk,
            audit_rate=1.0,
            wait_seconds=DEADLINE_SECONDS,
            observer=log,
            ahead=False,
        )


async def record(
    recorders: Sequence[Recorder], jobs: Sequence[Job], journal: Journal, step: Callable[[], None]
) -> list[Answer]:
    """The answers of ``jobs`` in order, those of one prompt by one recorder; those that ``journal`` has are not written again.
    ``step`` is called after each."""

    def worker(recorder: Recorder) -> Callable[[list[Job]], Awaitable[None]]:
        async def work(group: list[Job]) -> None:
            for job in group:
                if (job.prompt, job.threshold) not in journal.answers:
                    journal.add(await recorder.write(job))
                    await asyncio.sleep(0)  # an interrupt is noticed between answers
                step()

        return work

    groups = [list(group) for _, group in groupby(jobs, key=lambda job: job.prompt)]
    await spread(groups, [worker(recorder) for recorder in recorders])
    return [journal.answers[(job.prompt, job.threshold)] for job in jobs]


class _Tap:
    """A drafter that remembers the signals of what it drafted and shows the gate the policy's score as ``u``."""

    def __init__(self, inner: Drafter, score: Score) -> None:
        self._inner, self._score = inner, score
        self._seen: dict[int, tuple[Sparse, Signals]] = {}  # by identity of the draft distribution

    def acquire(self) -> int | None:
        self._seen.clear()
        return self._inner.acquire()

    def release(self, slot: int) -> None:
        self._inner.release(slot)

    async def step(self, request: StepRequest) -> Step:
        step = await self._inner.step(request)
        self._seen[id(step.x)] = (step.x, step.signals)
        return replace(step, u=self._score(step.signals))

    def signals(self, x: Sparse) -> Signals:
        return self._seen[id(x)][1]


class _Log(Observer):
    """Every token that a verdict reached, in order."""

    def __init__(self, judge: Judging, tap: _Tap) -> None:
        self._judge, self._tap = judge, tap
        self.tokens: list[Token] = []

    def round(self, flight: Flight, verdict: Verdict, seconds: float) -> None:
        reached = len(flight.span) if flight.audit_only else verdict.kept + verdict.corrected
        for token, y in zip(flight.span[:reached], self._judge.laws, strict=False):
            audit = rejection(float(y[token.d]), token.x_d)
            self.tokens.append(Token(self._tap.signals(token.x), token.x_d, token.judged, audit, token.x.excess(y)))
