"""What each message of a session does: the path from a candidate batch to its stored verdict."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeVar

from services.common.messages import Cancel, CandidateBatch, Open, Status, Verdict
from services.common.outage import Link
from services.common.redis_client import TRANSIENT
from services.common.speculative import SpanToken
from services.verifier import context as rules
from services.verifier.context import Context, Target
from services.verifier.dead_letter import DeadLetters
from services.verifier.metrics import VerifierMetrics
from services.verifier.pump import Answer, ExpiredError, JudgeError, Pump
from services.verifier.scheduler import Round
from services.verifier.sessions import Arrival
from services.verifier.store import ContextStore

T = TypeVar("T")


class RoundHandler:
    """Called with one message of a session at a time. ``remembered`` sessions have their context in memory."""

    def __init__(
        self,
        target: Target,
        store: ContextStore,
        redis: Link,
        pump: Pump,
        dead_letters: DeadLetters,
        metrics: VerifierMetrics,
        *,
        remembered: int,
    ) -> None:
        self._target = target
        self._store = store
        self._redis = redis
        self._pump = pump
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._remembered = remembered
        self._contexts: OrderedDict[bytes, Context] = OrderedDict()

    async def __call__(self, arrival: Arrival) -> None:
        message = arrival.message
        if isinstance(message, Open):
            await self._open(arrival, message)
        elif isinstance(message, CandidateBatch):
            await self._candidates(arrival, message)
        else:
            await self._cancel(arrival, message)

    async def _open(self, arrival: Arrival, message: Open) -> None:
        ids = message.base()
        refused = rules.refuse_open(message, ids, self._target)
        context = Context.of(message, [] if refused else ids, refused)
        self._remember(arrival.session, context)
        if refused is None:
            self._pump.prompt(arrival.session, ids)
        await self._insist(lambda: self._store.put_context(arrival.identity.worker, message.session, context))
        if refused is not None:
            await self._dead_letters.send(arrival.letter, refused[1])

    async def _cancel(self, arrival: Arrival, message: Cancel) -> None:
        self._contexts.pop(arrival.session, None)
        self._pump.release(arrival.session)
        await self._insist(lambda: self._store.drop_context(arrival.identity.worker, message.session))

    async def _candidates(self, arrival: Arrival, message: CandidateBatch) -> None:
        deadline = arrival.appended + message.ttl_ms / 1000
        if time.time() >= deadline:
            await self._expired(arrival, message)
            return
        span = message.tokens()
        context = self._contexts.get(arrival.session)
        if context is None or not context.matches(message):
            context = await self._look_up(arrival, message, context, span)
            if context is None:
                return  # answered already
        if context.refusal is not None:
            await self._refuse(arrival, message, *context.refusal)
            return
        reason = rules.refuse_round(message, span, self._target)
        if reason:
            await self._refuse(arrival, message, Status.INVALID, reason)
            await self._dead_letters.send(arrival.letter, reason)
            return
        await self._judge(arrival, message, context, span, deadline)

    async def _look_up(
        self, arrival: Arrival, message: CandidateBatch, known: Context | None, span: list[SpanToken]
    ) -> Context | None:
        """The round's context from Redis; or None, once a stored verdict or a refusal has been sent instead."""
        found = await self._insist(lambda: self._store.find(arrival.identity.worker, message.session, message.round))
        context = found.context
        if context is not None and context.matches(message):
            self._remember(arrival.session, context)
            return context
        if found.verdict is not None and found.verdict.base_length >= message.base_length:
            await self._resend(arrival, message, found.verdict)
            return None
        if context is None and known is None:
            await self._refuse(arrival, message, Status.CONTEXT_LOST, "no verifier knows this session: send Open with all ids")
        else:
            await self._refuse(
                arrival, message, Status.STALE_BASE, "the base differs from the one known here: send Open with all ids"
            )
        return None

    async def _judge(
        self, arrival: Arrival, message: CandidateBatch, context: Context, span: list[SpanToken], deadline: float
    ) -> None:
        opened = context.open
        item = Round(
            arrival.session, context.ids, span, opened.sampling, opened.seed, message.round, message.want_bonus, deadline
        )
        try:
            answer = await self._pump.judge(item)
        except ExpiredError:
            await self._expired(arrival, message)
            return
        except JudgeError as error:
            await self._refuse(arrival, message, Status.INVALID, str(error))
            await self._dead_letters.send(arrival.letter, str(error))
            return
        judged = answer.judged
        after = context.after([t.d for t in span[: judged.kept]], judged.token)
        queue = max(0.0, answer.started - arrival.appended)
        verdict = rules.verdict(message, judged, after, queue=queue, verify=answer.seconds)
        before = await self._insist(lambda: self._store.settle(arrival.identity.worker, verdict, after))
        if before is None:
            self._remember(arrival.session, after)
            self._count(span, answer, queue)
        else:
            await self._adopt(arrival, message, context, span, before)

    async def _adopt(
        self, arrival: Arrival, message: CandidateBatch, context: Context, span: list[SpanToken], before: Verdict
    ) -> None:
        """The round had its verdict already: deliver that one, and go on from it."""
        after = rules.follows(before, context, span)
        if after is None:
            await self._refuse(arrival, message, Status.INVALID, "this round was judged before with another span")
            return
        self._remember(arrival.session, after)
        await self._insist(lambda: self._store.put_context(arrival.identity.worker, message.session, after))
        await self._resend(arrival, message, before)

    async def _resend(self, arrival: Arrival, message: CandidateBatch, stored: Verdict) -> None:
        self._metrics.resent.inc()
        verdict = stored.model_copy(update={"attempt": message.attempt})
        await self._insist(lambda: self._store.send(arrival.identity.worker, verdict))

    async def _expired(self, arrival: Arrival, message: CandidateBatch) -> None:
        self._metrics.expired.inc()
        await self._refuse(arrival, message, Status.EXPIRED, f"older than its time to live of {message.ttl_ms} ms")

    async def _refuse(self, arrival: Arrival, message: CandidateBatch, status: Status, reason: str) -> None:
        self._metrics.rounds.labels(status.value).inc()
        verdict = rules.refusal(message, status, reason)
        await self._insist(lambda: self._store.send(arrival.identity.worker, verdict))

    async def _insist(self, operation: Callable[[], Awaitable[T]]) -> T:
        return await self._redis.insist(operation, TRANSIENT)

    def _remember(self, session: bytes, context: Context) -> None:
        self._contexts[session] = context
        self._contexts.move_to_end(session)
        while len(self._contexts) > self._remembered:
            self._contexts.popitem(last=False)

    def _count(self, span: list[SpanToken], answer: Answer, queue: float) -> None:
        metrics, judged = self._metrics, answer.judged
        metrics.rounds.labels(Status.OK.value).inc()
        metrics.queue.observe(queue)
        skipped = sum(t.x is None for t in span[: judged.kept])
        metrics.tokens.labels("skipped").inc(skipped)
        metrics.tokens.labels("accepted").inc(judged.kept - skipped)
        if judged.token is not None:
            metrics.tokens.labels("corrected" if judged.corrected else "bonus").inc()
