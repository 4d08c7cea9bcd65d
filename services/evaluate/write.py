"""One answer of one method through the edge worker's own session loop, and what it left behind."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.common import codec
from services.common.messages import Open, Verdict, encode
from services.common.rng import Purpose, key
from services.common.sampling import Sampling
from services.edge_worker.answer import AnswerRequest, AnswerStats, OnOutage
from services.edge_worker.breaker import Breaker
from services.edge_worker.draft import Drafter, Step, StepRequest
from services.edge_worker.session import Observer, Session, Worker
from services.edge_worker.transcript import Flight
from services.evaluate.methods import Rule
from services.evaluate.trace import Exchange, Record
from services.pair.judge import Judge
from services.pair.rows import Pair, Row

DEADLINE_SECONDS = 600.0  # nothing is lost in one process; a forward pass may be slow
NO_HASH = "0" * 16  # as long as a real one: its bytes count
DEVICE_CLASS = "default"  # as the edge worker names it, if not told otherwise


Subject = Pair[Judge]


@dataclass(frozen=True)
class Asked:
    """What holds for every answer. ``seed``: draws of an answer follow from it and the prompt: the same for every method."""

    sampling: Sampling
    max_tokens: int
    seed: int

    def of(self, prompt: int) -> int:
        return int(key(self.seed, prompt, 0, Purpose.GATE))


async def alone(subject: Subject, row: Row[Judge], asked: Asked, prompt: int) -> Record:
    """The large model by itself, the text of ``llm`` and of ``remote-llm``."""
    ids = subject.prompts[prompt]
    session, seed = os.urandom(16), asked.of(prompt)
    started = time.monotonic()
    with row.writing():
        out = await row.judge.alone(session, ids, asked.max_tokens, subject.end_ids, asked.sampling, seed)
    seconds = time.monotonic() - started
    return Record(
        method="llm",
        prompt=prompt,
        text=_text(subject, out),
        answered=len(out),
        judged=0,
        bonus=0,
        audit_sum=0.0,
        steps=0,
        measured_seconds=_measured(subject, seconds),
        open_bytes=0,
        prompt_fed=len(ids),
        streamed=True,
    )


def remote(subject: Subject, asked: Asked, record: Record) -> Record:
    """``record`` of the large model, asked over the link: our opening message up, a verdict with one token down for each."""
    ids = list(subject.prompts[record.prompt])
    verdict = Verdict(
        session=os.urandom(16),
        round=0,
        kept=0,
        token=max(ids),
        base_length=len(ids),
        base_digest=codec.base_digest(ids),
    )
    down = record.answered * len(encode(verdict))
    return replace(record, method="remote-llm", open_bytes=_open_bytes(subject, asked, record.prompt), down_bytes=down)


def silent(subject: Subject, asked: Asked, record: Record, label: str) -> Record:
    """``record`` of the small model alone at temperature 0, as a method that flags nothing writes it: the session is opened and
    the prompt processed, in vain."""
    up, fed = _open_bytes(subject, asked, record.prompt), len(subject.prompts[record.prompt])
    return replace(record, method=label, open_bytes=up, prompt_fed=fed)


def _open_bytes(subject: Subject, asked: Asked, prompt: int) -> int:
    ids = list(subject.prompts[prompt])
    opening = Open(
        session=os.urandom(16),
        ids=codec.pack_ids(ids),
        prompt_tokens=len(ids),
        sampling=asked.sampling,
        seed=asked.of(prompt),
        tokenizer_hash=NO_HASH,
        generation=0,
        device_class=DEVICE_CLASS,
    )
    return subject.rows[0].judge.size(opening)


async def write(subject: Subject, row: Row[Judge], asked: Asked, prompt: int, label: str, rule: Rule) -> Record:
    """One answer, every skipped token of it audited; what the audits of trailing spans cost is left out."""
    with row.writing():
        return await _write(subject, row, asked, prompt, label, rule)


async def _write(subject: Subject, row: Row[Judge], asked: Asked, prompt: int, label: str, rule: Rule) -> Record:
    judge, ids = row.judge, subject.prompts[prompt]
    drafter = _Counting(row.drafter(rule.gate.signal, rule.predictor))
    log = _Log(judge, drafter)
    slot = drafter.acquire()
    if slot is None:
        raise RuntimeError("one answer at a time")
    judge.begin(early=rule.asks)
    request = AnswerRequest(
        prompt_ids=list(ids),
        max_tokens=asked.max_tokens,
        sampling=asked.sampling,
        seed=asked.of(prompt),
        mode=rule.mode,
        k=rule.k,
        gamma=rule.gamma,
        deadline_seconds=DEADLINE_SECONDS,
        on_outage=OnOutage.ERROR,
    )
    started = time.monotonic()
    session = Session(request, _worker(subject, judge, drafter, rule, log), slot)
    out = [token.id async for token in session]
    seconds = time.monotonic() - started - log.audit_seconds
    _check(session.stats, log)
    told = log.told if log.exchanges else (judge.open_bytes, judge.prompt_fed)  # not the openings of audits
    open_bytes, prompt_fed = told if rule.asks and not session.stats.kept_local else (0, 0)
    return Record(
        method=label,
        prompt=prompt,
        text=_text(subject, out),
        answered=len(out),
        judged=session.stats.judged,
        bonus=session.stats.bonus,
        audit_sum=log.audit_sum,
        steps=drafter.steps,
        measured_seconds=_measured(subject, seconds),
        open_bytes=open_bytes,
        prompt_fed=prompt_fed,
        exchanges=tuple(log.exchanges),
    )


def _worker(subject: Subject, judge: Judge, drafter: Drafter, rule: Rule, log: Observer) -> Worker:
    return Worker(
        drafter=drafter,
        client=judge,
        breaker=Breaker(),
        gate=rule.gate,
        end_ids=subject.end_ids,
        tokenizer_hash=NO_HASH,
        target="",
        span_tokens=rule.span_tokens,
        wait_tokens=rule.wait_tokens,
        risk=rule.risk,
        audit_rate=1.0,
        wait_seconds=DEADLINE_SECONDS,
        observer=log,
        device_class=DEVICE_CLASS,
        ahead=False,  # both models share this machine; the text is the same without
    )


def _check(stats: AnswerStats, log: _Log) -> None:
    if stats.skipped != log.audited or stats.unverified:
        raise RuntimeError("a skipped token was not audited, or a candidate not judged: the damage would be wrong")


def _measured(subject: Subject, seconds: float) -> float | None:
    """Answers that share passes, and texts that are remembered, have no time of their own."""
    return seconds if len(subject.rows) == 1 else None


def _text(subject: Subject, ids: Sequence[int]) -> str:
    return subject.text([i for i in ids if i not in subject.end_ids])


class _Counting:
    """A drafter that counts what it drafted."""

    def __init__(self, inner: Drafter) -> None:
        self._inner = inner
        self.steps = 0

    def acquire(self) -> int | None:
        return self._inner.acquire()

    def release(self, slot: int) -> None:
        self._inner.release(slot)

    async def step(self, request: StepRequest) -> Step:
        self.steps += bool(request.tokens)  # without, the last step's logits are drawn from again
        return await self._inner.step(request)


class _Log(Observer):
    """Rounds in order; rounds for audit only are taken for their audits. ``told``: bytes and processed tokens of openings."""

    def __init__(self, judge: Judge, drafter: _Counting) -> None:
        self._judge, self._drafter = judge, drafter
        self.exchanges: list[Exchange] = []
        self.audit_sum, self.audited, self.audit_seconds = 0.0, 0, 0.0
        self.told = (0, 0)
        self._steps = 0

    def round(self, flight: Flight, verdict: Verdict, seconds: float) -> None:
        last = self._judge.last
        self.audit_sum += sum(last.audits)
        self.audited += len(last.audits)
        if flight.audit_only:
            self.audit_seconds += seconds
            return
        steps, self._steps = self._drafter.steps - self._steps, self._drafter.steps
        self.told = (self._judge.open_bytes, self._judge.prompt_fed)
        judged = sum(t.judged for t in flight.span)
        self.exchanges.append(Exchange(steps, last.up_bytes, last.down_bytes, last.fed, judged))
