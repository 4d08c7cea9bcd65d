"""What each message of a session does: the path from a candidate batch to its stored verdict.

The handler returns None, or why the message goes to the dead letters. Where a round can be named, the device is answered
whatever comes.
"""

from __future__ import annotations

import time
from collections import OrderedDict

from services.common.codec import CodecError
from services.common.messages import Cancel, CandidateBatch, Open, Status
from services.common.policy_reader import PolicyReader
from services.common.speculative import SpanToken
from services.common.tracing import Tracer, Untraced
from services.verifier import context as rules
from services.verifier.budget import Budgets
from services.verifier.context import Context, Refusal, Target
from services.verifier.metrics import VerifierMetrics
from services.verifier.pump import Answer, ExpiredError, JudgeError, OverloadedError, Pump
from services.verifier.replies import Replies
from services.verifier.scheduler import Round
from services.verifier.sessions import Arrival
from services.verifier.store import ContextStore, Put, Stored, Unsettled

ANOTHERS = "another worker's session"
CLOSED = "the session is closed"


class RoundHandler:
    """Called with one message of a session at a time. ``remembered`` sessions have their context in memory, none of them longer
    than ``context_bytes``."""

    def __init__(
        self,
        target: Target,
        store: ContextStore,
        replies: Replies,
        pump: Pump,
        budgets: Budgets,
        metrics: VerifierMetrics,
        *,
        remembered: int,
        context_bytes: int,
        policy: PolicyReader | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._target = target
        self._store = store
        self._replies = replies
        self._pump = pump
        self._budgets = budgets
        self._metrics = metrics
        self._remembered = remembered
        self._context_bytes = context_bytes
        self._policy = policy
        self._tracer = tracer or Untraced()
        self._contexts: OrderedDict[bytes, Context] = OrderedDict()
        self._paid: OrderedDict[bytes, None] = OrderedDict()  # sessions whose base was charged when they were opened

    async def __call__(self, arrival: Arrival) -> str | None:
        message = arrival.message
        if isinstance(message, Open):
            return await self._open(arrival, message)
        if isinstance(message, CandidateBatch):
            return await self._candidates(arrival, message)
        return await self._cancel(arrival, message)

    # -- sessions -----------------------------------------------------------------------------------------------------

    async def _open(self, arrival: Arrival, message: Open) -> str | None:
        identity = arrival.identity
        if not await self._replies.insist(lambda: self._store.claim(identity, message.session)):
            return ANOTHERS
        tenant = identity.effective_tenant(message.tenant)
        ids, refused = rules.read_open(message, self._target, self._context_bytes)
        refused = refused or self._over_budget(arrival, tenant, len(ids))
        context = Context.of(message, [] if refused else ids, tenant, refused)
        put = await self._replies.insist(
            lambda: self._store.put_context(identity.worker, message.session, context, arrival.origin)
        )
        if put in (Put.REPLAYED, Put.CLOSED):
            return "replayed: an opening" if put is Put.REPLAYED else CLOSED
        if refused is not None:
            self._contexts.pop(arrival.session, None)
            return _set_aside(refused)
        if put is Put.WRITTEN:
            self._remember(arrival.session, context)
            self._pay(arrival.session)
            self._pump.prompt(arrival.session, ids, tenant)
        return None

    async def _cancel(self, arrival: Arrival, message: Cancel) -> str | None:
        identity = arrival.identity
        self._contexts.pop(arrival.session, None)
        self._pump.release(arrival.session)
        if await self._anothers(arrival):
            return ANOTHERS
        put = await self._replies.insist(lambda: self._store.cancel(identity.worker, message.session, arrival.origin))
        return CLOSED if put is Put.CLOSED else None

    # -- rounds -------------------------------------------------------------------------------------------------------

    async def _candidates(self, arrival: Arrival, message: CandidateBatch) -> str | None:
        try:
            span = message.tokens(self._target.max_span_tokens)
        except CodecError as error:
            return await self._invalid(arrival, message, str(error))
        deadline = arrival.appended + message.ttl_ms / 1000
        if time.time() >= deadline:
            await self._expired(arrival, message)
            return None
        context = self._contexts.get(arrival.session)
        if context is None or not context.matches(message):
            found = await self._look_up(arrival, message, span, known=context is not None)
            if not isinstance(found, Context):
                return found  # answered already
            context = found
        if context.refusal is not None:
            await self._replies.refuse(arrival, message, *context.refusal)
            return _set_aside(context.refusal)
        if reason := self._refuse_round(message, span, context):
            return await self._invalid(arrival, message, reason)
        if over := self._over_budget(arrival, context.tenant, len(span) + message.want_bonus):
            await self._replies.refuse(arrival, message, *over)
            return None
        return await self._judge(arrival, message, context, span, deadline)

    async def _look_up(
        self, arrival: Arrival, message: CandidateBatch, span: list[SpanToken], *, known: bool
    ) -> Context | str | None:
        """The round's context from Redis; or, once it has been answered, why it is set aside, if it is."""
        identity = arrival.identity
        found = await self._replies.insist(lambda: self._store.find(identity.worker, message.session, message.round))
        context, stored = found.context, found.stored
        if context is not None and not identity.owns(context.tenant):
            return await self._invalid(arrival, message, ANOTHERS)  # of a worker with the same name, but of another tenant
        if context is not None and context.matches(message):
            if context.refusal is None:
                self._remember(arrival.session, context)
            return context
        if stored is not None and stored.verdict.base_length >= message.base_length:
            return await self._replies.resend(arrival, message, stored)
        if found.closed is not None:
            await self._replies.refuse(arrival, message, Status.INVALID, CLOSED)
            return CLOSED if arrival.origin.after(found.closed) else None
        if context is None and await self._anothers(arrival):
            return await self._invalid(arrival, message, ANOTHERS)
        if reason := rules.refuse_round(message, span, self._target):
            return await self._invalid(arrival, message, reason)
        if context is None and not known:
            reason = "no verifier knows this session: send Open with all ids"
            await self._replies.refuse(arrival, message, Status.CONTEXT_LOST, reason)
        else:
            await self._stale(arrival, message)
        return None

    async def _judge(
        self, arrival: Arrival, message: CandidateBatch, context: Context, span: list[SpanToken], deadline: float
    ) -> str | None:
        opened = context.open
        item = Round(
            arrival.session,
            context.ids,
            span,
            opened.sampling,
            opened.seed,
            message.round,
            message.want_bonus,
            deadline,
            context.tenant,
            opened.device_class,
        )
        try:
            answer = await self._pump.judge(item)
        except ExpiredError:
            await self._expired(arrival, message)
            return None
        except OverloadedError as error:
            await self._replies.refuse(arrival, message, Status.OVERLOADED, str(error))
            return None
        except JudgeError as error:
            return await self._invalid(arrival, message, str(error))
        if self._paid.pop(arrival.session, False) is False:  # its prefix has gone from the cache and had to be fed again
            self._budgets.charge(arrival.identity.worker, context.tenant, item.missing, time.monotonic())
        judged = answer.judged
        after = context.after([t.d for t in span[: judged.kept]], judged.token)
        queue = max(0.0, answer.started - arrival.appended)
        policy = None if self._policy is None else self._policy.of(opened.device_class)
        verdict = rules.verdict(message, judged, after, queue=queue, verify=answer.seconds, policy=policy, spent=answer.spent)
        worker, origin = arrival.identity.worker, arrival.origin
        before = await self._replies.insist(
            lambda: self._store.settle(worker, verdict, context.digest, after, origin, arrival.schema)
        )
        if before is None:
            self._remember(arrival.session, after)
            self._count(span, answer, queue)
            self._trace(opened.traceparent, arrival, message, answer)
            return None
        return await self._lost(arrival, message, context, span, before)

    async def _lost(
        self, arrival: Arrival, message: CandidateBatch, context: Context, span: list[SpanToken], before: Stored | Unsettled
    ) -> str | None:
        """Another verifier was first, or the session has gone on without this round: what stands in Redis stands."""
        self._metrics.lost_races.inc()
        if isinstance(before, Stored):
            after = rules.follows(before.verdict, context, span)
            if after is None:
                self._contexts.pop(arrival.session, None)
                return await self._invalid(arrival, message, "this round was judged before with another span")
            self._remember(arrival.session, after)  # slots follow their session's ids: this rolls back to the stored verdict
            return await self._replies.resend(arrival, message, before)
        self._contexts.pop(arrival.session, None)
        if before is Unsettled.CLOSED:
            await self._replies.refuse(arrival, message, Status.INVALID, CLOSED)
        else:
            await self._stale(arrival, message)
        return None

    # -- parts --------------------------------------------------------------------------------------------------------

    def _refuse_round(self, message: CandidateBatch, span: list[SpanToken], context: Context) -> str:
        if len(context.packed) + len(message.span) + 5 > self._context_bytes:
            return f"base and span exceed the {self._context_bytes} bytes of a context"
        return rules.refuse_round(message, span, self._target)

    def _over_budget(self, arrival: Arrival, tenant: str, tokens: int) -> Refusal | None:
        over = self._budgets.spend(arrival.identity.worker, tenant, tokens, time.monotonic())
        if over is None:
            return None
        self._metrics.over_budget.labels(over.scope).inc()
        return Status.OVERLOADED, over.reason

    async def _anothers(self, arrival: Arrival) -> bool:
        return await self._replies.insist(lambda: self._store.is_anothers(arrival.identity, arrival.message.session))

    async def _invalid(self, arrival: Arrival, message: CandidateBatch, reason: str) -> str:
        await self._replies.refuse(arrival, message, Status.INVALID, reason)
        return reason

    async def _stale(self, arrival: Arrival, message: CandidateBatch) -> None:
        reason = "the base differs from the one known here: send Open with all ids"
        await self._replies.refuse(arrival, message, Status.STALE_BASE, reason)

    async def _expired(self, arrival: Arrival, message: CandidateBatch) -> None:
        self._metrics.expired.inc()
        await self._replies.refuse(arrival, message, Status.EXPIRED, f"older than its time to live of {message.ttl_ms} ms")

    def _pay(self, session: bytes) -> None:
        self._paid[session] = None
        if len(self._paid) > self._remembered:
            self._paid.popitem(last=False)

    def _remember(self, session: bytes, context: Context) -> None:
        self._contexts[session] = context
        self._contexts.move_to_end(session)
        while len(self._contexts) > self._remembered:
            self._contexts.popitem(last=False)

    def _count(self, span: list[SpanToken], answer: Answer, queue: float) -> None:
        metrics, judged = self._metrics, answer.judged
        metrics.verdicts.labels(Status.OK.value).inc()
        metrics.queue.observe(queue)
        skipped = sum(t.x is None for t in span[: judged.kept])
        metrics.tokens.labels("skipped").inc(skipped)
        metrics.tokens.labels("accepted").inc(judged.kept - skipped)
        if judged.token is not None:
            metrics.tokens.labels("corrected" if judged.corrected else "bonus").inc()

    def _trace(self, parent: str, arrival: Arrival, message: CandidateBatch, answer: Answer) -> None:
        session = message.session.hex()
        about: dict[str, str | int] = {
            "sluice.session": session,
            "sluice.round": message.round,
            "sluice.attempt": message.attempt,
        }
        self._tracer.span("queue", parent, min(arrival.appended, answer.started), answer.started, about)
        self._tracer.span("verify", parent, answer.started, answer.started + answer.seconds, about)


def _set_aside(refused: Refusal) -> str | None:
    """Why a message of a session that is refused goes to the dead letters: not where it only came at a bad time."""
    return refused[1] if refused[0] is not Status.OVERLOADED else None
