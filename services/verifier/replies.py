"""What a worker is told: refusals and verdicts that stand already. Nothing here changes a session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from services.common.messages import CandidateBatch, Status
from services.common.outage import Link
from services.common.redis_client import TRANSIENT
from services.verifier import context as rules
from services.verifier.metrics import VerifierMetrics
from services.verifier.sessions import Arrival
from services.verifier.store import ContextStore, Stored

T = TypeVar("T")


class Replies:
    """Each answer is in the schema version of its question, and is insisted on while Redis is away."""

    def __init__(self, store: ContextStore, redis: Link, metrics: VerifierMetrics) -> None:
        self._store = store
        self._redis = redis
        self._metrics = metrics

    async def refuse(self, arrival: Arrival, message: CandidateBatch, status: Status, reason: str) -> None:
        """A verdict that is not ``ok``: delivered, not stored."""
        self._metrics.verdicts.labels(status.value).inc()
        verdict = rules.refusal(message, status, reason)
        await self.insist(lambda: self._store.send(arrival.identity.worker, verdict, arrival.schema))

    async def resend(self, arrival: Arrival, message: CandidateBatch, stored: Stored) -> str | None:
        """The verdict that stands, again. Returns why the message is set aside: it was played back."""
        self._metrics.resent.inc()
        verdict = stored.verdict.model_copy(update={"attempt": message.attempt})
        await self.insist(lambda: self._store.send(arrival.identity.worker, verdict, arrival.schema))
        replayed = arrival.origin.after(stored.origin) and message.attempt <= stored.verdict.attempt
        return "replayed: a round that has its verdict" if replayed else None

    async def insist(self, operation: Callable[[], Awaitable[T]]) -> T:
        return await self._redis.insist(operation, TRANSIENT)
