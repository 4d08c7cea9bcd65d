"""The messages of each session, one after the other; different sessions side by side."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

import structlog

from services.common.credentials import Identity
from services.verifier.admission import SessionMessage
from services.verifier.dead_letter import DeadLetters, Letter
from services.verifier.offsets import Offsets, Ticket
from services.verifier.pump import WithdrawnError


@dataclass(frozen=True)
class Arrival:
    """A decoded message; ``appended``: seconds since the epoch, as the broker stamped it."""

    message: SessionMessage
    identity: Identity
    letter: Letter
    ticket: Ticket
    appended: float

    @property
    def session(self) -> bytes:
        """Key of the session inside this process: a session belongs to its worker and tenant."""
        return self.message.session + self.identity.tag


Handler = Callable[[Arrival], Awaitable[None]]


class Sessions:
    """A queue and, while it is not empty, a task for each session. ``handle`` gives a message its effect."""

    def __init__(self, handle: Handler, dead_letters: DeadLetters) -> None:
        self._handle = handle
        self._dead_letters = dead_letters
        self._queues: dict[bytes, deque[Arrival]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger()

    def push(self, arrival: Arrival) -> None:
        queue = self._queues.get(arrival.session)
        if queue is not None:
            queue.append(arrival)
            return
        queue = self._queues[arrival.session] = deque([arrival])
        self.spawn(self._run(arrival.session, queue))

    def set_aside(self, letter: Letter, ticket: Ticket, reason: str) -> None:
        """A message that could not even be decoded."""
        self.spawn(self._set_aside(letter, ticket, reason))

    def of(self, partitions: Collection[int]) -> list[bytes]:
        """Sessions with messages of these partitions."""
        return [key for key, queue in self._queues.items() if any(a.letter.partition in partitions for a in queue)]

    def spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up what is still running."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, key: bytes, queue: deque[Arrival]) -> None:
        try:
            while queue:
                await self._one(queue[0])
                queue.popleft()
        finally:
            del self._queues[key]

    async def _one(self, arrival: Arrival) -> None:
        ticket = arrival.ticket
        if not Offsets.start(ticket):
            return  # the partition is moving: its next owner reads the message again
        try:
            await self._handle(arrival)
        except (WithdrawnError, asyncio.CancelledError) as error:
            Offsets.abandon(ticket)
            if isinstance(error, asyncio.CancelledError):
                raise
        except Exception as error:  # noqa: BLE001 - one message must never stall its partition
            self._log.exception("a message could not be handled", kind=arrival.message.kind)
            await self._dead_letters.send(arrival.letter, f"internal error: {type(error).__name__}")
            Offsets.finish(ticket)
        else:
            Offsets.finish(ticket)

    async def _set_aside(self, letter: Letter, ticket: Ticket, reason: str) -> None:
        if not Offsets.start(ticket):
            return
        try:
            await self._dead_letters.send(letter, reason)
        except asyncio.CancelledError:
            Offsets.abandon(ticket)
            raise
        Offsets.finish(ticket)
