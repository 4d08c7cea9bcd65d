"""``Answerer`` over the session loop: a bounded number of sessions, each with its draft slot."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from services.edge_worker.answer import Answer, AnswerRequest, AnswerStats, BusyError, TokenOut
from services.edge_worker.session import Session, Worker

RETRY_AFTER_SECONDS = 1.0


class SessionAnswerer:
    """Starts a session for each request; one more than there are slots is refused with ``BusyError``."""

    def __init__(self, worker: Worker, on_end: Callable[[AnswerRequest, AnswerStats], None] = lambda *_: None) -> None:
        self._worker = worker
        self._on_end = on_end
        self.running: set[_Running] = set()
        self.draining = False

    def answer(self, request: AnswerRequest) -> Answer:
        if self.draining:
            raise BusyError("this worker is shutting down", RETRY_AFTER_SECONDS)
        slot = self._worker.drafter.acquire()
        if slot is None:
            raise BusyError(f"all {len(self.running)} sessions of this worker are in use", RETRY_AFTER_SECONDS)
        return _Running(Session(request, self._worker, slot), self)

    def stop(self, reason: str) -> None:
        """End the answers that still run, each with what is final by then; their accounts state the ``reason``."""
        for answer in list(self.running):
            answer.stop(reason)

    def ended(self, answer: _Running) -> None:
        if answer in self.running:
            self.running.discard(answer)
            self._on_end(answer.request, answer.stats)


class _Running:
    """A session that its answerer keeps track of."""

    def __init__(self, session: Session, owner: SessionAnswerer) -> None:
        self._session, self._owner = session, owner
        self.request, self.stats = session.request, session.stats
        owner.running.add(self)

    def __aiter__(self) -> AsyncIterator[TokenOut]:
        return self._run()

    def stop(self, reason: str) -> None:
        self._session.stop(reason)

    async def _run(self) -> AsyncIterator[TokenOut]:
        try:
            async for token in self._session:
                yield token
        finally:
            self._owner.ended(self)

    async def aclose(self) -> None:
        try:
            await self._session.aclose()
        finally:
            self._owner.ended(self)
