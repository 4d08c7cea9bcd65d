"""What of an answer no verdict covers, and its audit (DESIGN section 3).

Rounds audit the skipped tokens before them in passing. Spans that nobody asks about, those of local answers, at the end of an
answer and of an outage, are uploaded for audit only, at the end of a share of answers that is drawn before generation. An audit
changes no token, and its loss fails no answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from services.common import codec, rng
from services.common.drift.ledger import Ledger
from services.common.messages import Status, Verdict
from services.edge_worker.answer import AnswerRequest, AnswerStats
from services.edge_worker.sender import Sender
from services.edge_worker.span import Drafted
from services.edge_worker.transcript import Flight, Transcript
from services.edge_worker.verifier_client import Lost
from services.edge_worker.worker import Worker

RESEND = (Status.STALE_BASE, Status.CONTEXT_LOST)

Receive = Callable[[Flight], Awaitable[Verdict | Lost | None]]  # what became of a round; None: the session is to stop


def drawn(request: AnswerRequest, rate: float) -> bool:
    """Whether what no verdict covers of this answer will be audited: known before generation, and no part of its tokens."""
    seed = request.seed if request.audit_seed is None else request.audit_seed
    return rng.uniform(seed, 0, 0, rng.Purpose.AUDIT) < rate


@dataclass(frozen=True)
class _Left:
    """A span of the text; ``start``: ids before it."""

    start: int
    span: Sequence[Drafted]

    @property
    def skipped(self) -> int:
        return sum(not t.judged for t in self.span)


class Auditing:
    """The audits of one answer. Writes ``stats.audits``."""

    def __init__(self, request: AnswerRequest, worker: Worker, text: Transcript, sender: Sender, stats: AnswerStats) -> None:
        self._worker, self._text, self._sender, self._stats = worker, text, sender, stats
        self._drawn = drawn(request, worker.audit_rate)
        self._agreed = len(text.base)  # ids that the verifier has
        self._left: list[_Left] = []
        stats.audits = Ledger(worker.audit_rate)

    def in_round(self, verdict: Verdict) -> None:
        """An ``ok`` verdict has become part of the text."""
        self._stats.audits.in_round(codec.unpack_audits(verdict.audits))
        self._agreed = len(self._text.base)

    def left(self, span: Sequence[Drafted]) -> None:
        """``span`` follows the text's base and will stay without a verdict."""
        if any(not t.judged for t in span):
            self._left.append(_Left(len(self._text.base), list(span)))

    async def settle(self, receive: Receive) -> None:
        """The answer has ended. Where the link is down nothing is audited, drawn or not: to leave out only those that were
        drawn would make the rest look better than it is."""
        worker = self._worker
        if not self._left or worker.audit_rate == 0.0 or worker.breaker.blocking(worker.clock()):
            return
        if not self._drawn:
            self._stats.audits.spared(sum(one.skipped for one in self._left))
            return
        for part in self._parts():
            if not await self._audit(part, receive):
                return

    def _parts(self) -> Iterator[_Left]:
        """In pieces no longer than an upload may be."""
        most = self._worker.span_tokens
        for one in self._left:
            for at in range(0, len(one.span), most):
                yield _Left(one.start + at, one.span[at : at + most])

    async def _audit(self, part: _Left, receive: Receive) -> bool:
        """Whether the audit came."""
        worker, now = self._worker, self._worker.clock()
        permit = worker.breaker.admit(now)
        if permit is None:
            return False
        flight = self._flight(part.span, now)
        try:
            event = await self._ask(flight, part.start, receive)
            if event is None:
                return False
            if isinstance(event, Verdict) and event.status is Status.OK and event.kept == len(part.span):
                self._came(part, flight, event)
                return True
            cause = event.cause if isinstance(event, Lost) else event.status.value
            worker.breaker.failure(worker.clock(), cause, permit)
            worker.observer.lost(cause)
            self._stats.lost_rounds += 1
            self._stats.causes[cause] = self._stats.causes.get(cause, 0) + 1
            return False
        finally:
            worker.breaker.abandon(permit)

    def _flight(self, span: Sequence[Drafted], now: float) -> Flight:
        """All of ``span`` as skipped tokens: a candidate in it stays, whatever the verifier would say."""
        skipped = [replace(t, flagged=False, judged=False) for t in span]
        number, self._text.round = self._text.round, self._text.round + 1
        return Flight(number, skipped, want_bonus=False, audit_only=True, sent_at=now, first_sent_at=now, shown=len(span))

    async def _ask(self, flight: Flight, start: int, receive: Receive) -> Verdict | Lost | None:
        """Ask, and once more with all ids where the verifier does not have them."""
        self._sender.opened = self._sender.opened and start == self._agreed
        self._sender.submit(flight, self._text.base[:start])
        event = await receive(flight)
        if not isinstance(event, Verdict) or event.status not in RESEND:
            return event
        flight.attempt += 1
        flight.sent_at = self._worker.clock()
        self._sender.opened = False
        self._sender.submit(flight, self._text.base[:start])
        return await receive(flight)

    def _came(self, part: _Left, flight: Flight, verdict: Verdict) -> None:
        worker, stats = self._worker, self._stats
        worker.breaker.success()
        worker.observer.round(flight, verdict, worker.clock() - flight.first_sent_at)
        self._sender.trace.round(flight, verdict)
        self._agreed = part.start + len(part.span)
        stats.rounds += 1
        stats.verify_seconds += verdict.verify_seconds
        audits = codec.unpack_audits(verdict.audits)
        stats.audits.sampled([a for a, token in zip(audits, part.span, strict=True) if not token.judged])
