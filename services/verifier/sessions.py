"""The messages of each session, one after the other; different sessions side by side."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import structlog

from services.common.credentials import Identity
from services.common.messages import SCHEMA
from services.verifier.admission import SessionMessage
from services.verifier.dead_letter import DeadLetters, Letter
from services.verifier.offsets import Offsets, Ticket
from services.verifier.origin import Origin
from services.verifier.pump import WithdrawnError

FENCE_SECONDS = 2.0  # that work which is given up gets to end


@dataclass(frozen=True)
class Arrival:
    """A decoded message; ``appended``: seconds since the epoch, as the broker stamped it; ``schema``: to answer in."""

    message: SessionMessage
    identity: Identity
    letter: Letter
    ticket: Ticket
    appended: float
    schema: int = SCHEMA

    @property
    def origin(self) -> Origin:
        return Origin(self.letter.partition, self.letter.offset)

    @property
    def session(self) -> bytes:
        """Key of the session inside this process: a session belongs to its worker and tenant."""
        return self.message.session + self.identity.tag


# Returns why the message goes to the dead letters, or None.
Handler = Callable[[Arrival], Awaitable[str | None]]


class Sessions:
    """A queue and, while it is not empty, a task for each session. ``handle`` gives a message its effect."""

    def __init__(self, handle: Handler, dead_letters: DeadLetters) -> None:
        self._handle = handle
        self._dead_letters = dead_letters
        self._queues: dict[bytes, deque[Arrival]] = {}
        self._tasks: dict[asyncio.Task[None], int] = {}  # with the partition that the work belongs to
        self._log = structlog.get_logger()

    def push(self, arrival: Arrival) -> None:
        queue = self._queues.get(arrival.session)
        if queue is not None:
            queue.append(arrival)
            return
        queue = self._queues[arrival.session] = deque([arrival])
        self._spawn(self._run(arrival.session, queue), arrival.letter.partition)

    def set_aside(self, letter: Letter, ticket: Ticket, reason: str) -> None:
        """A message that could not even be decoded."""
        if Offsets.start(ticket):
            self._spawn(self._set_aside(letter, ticket, reason), letter.partition)

    def heads(self, partitions: Collection[int]) -> list[tuple[Ticket, bytes]]:
        """The message at hand of each session of these partitions, and the session."""
        return [
            (queue[0].ticket, key) for key, queue in self._queues.items() if queue and queue[0].letter.partition in partitions
        ]

    def of(self, partitions: Collection[int]) -> list[bytes]:
        """Sessions with messages of these partitions."""
        return [key for key, queue in self._queues.items() if any(a.letter.partition in partitions for a in queue)]

    async def fence(self, partitions: Collection[int]) -> int:
        """Give up what still runs for these partitions, so that nothing piles up behind an outage; how many there were."""
        for key in self.of(partitions):
            del self._queues[key]  # what comes for the session from now on does not wait for the end of this
        return await self._give_up([task for task, partition in self._tasks.items() if partition in partitions])

    async def close(self) -> None:
        """Give up what is still running."""
        await self._give_up(list(self._tasks))

    @staticmethod
    async def _give_up(tasks: list[asyncio.Task[None]]) -> int:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=FENCE_SECONDS)
        return len(tasks)

    def _spawn(self, work: Coroutine[Any, Any, None], partition: int) -> None:
        task = asyncio.create_task(work)
        self._tasks[task] = partition
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("a session's task failed", error=type(error).__name__)

    async def _run(self, key: bytes, queue: deque[Arrival]) -> None:
        try:
            while queue:
                await self._one(queue[0])
                queue.popleft()
        finally:
            if self._queues.get(key) is queue:
                del self._queues[key]

    async def _one(self, arrival: Arrival) -> None:
        ticket = arrival.ticket
        if not Offsets.start(ticket):
            return  # the partition is moving: its next owner reads the message again
        try:
            reason = await self._handle(arrival)
        except (WithdrawnError, asyncio.CancelledError) as error:
            Offsets.abandon(ticket)
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        except Exception as error:  # noqa: BLE001 - one message must never stall its partition
            self._log.exception("a message could not be handled", kind=arrival.message.kind)
            reason = f"internal error: {type(error).__name__}"
        else:
            if reason is None:
                Offsets.finish(ticket)
                return
        # Beside the session's next message: junk in numbers must not wait for one reply of the broker each.
        letter = replace(arrival.letter, worker=arrival.identity.worker)
        self._spawn(self._set_aside(letter, ticket, reason), letter.partition)

    async def _set_aside(self, letter: Letter, ticket: Ticket, reason: str) -> None:
        try:
            await self._dead_letters.send(letter, reason)
        except asyncio.CancelledError:
            Offsets.abandon(ticket)
            raise
        Offsets.finish(ticket)
