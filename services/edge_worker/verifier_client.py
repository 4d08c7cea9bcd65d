"""The seam between the session loop and whatever verifies: four calls, of which Kafka + Redis is the first implementation."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from services.common.messages import Cancel, CandidateBatch, Open, Status, Verdict


class LinkDown(ConnectionError):
    """The message could not be handed over; ``cause`` (``kafka``, ``redis``, ...) is the label it is counted under."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


@dataclass(frozen=True)
class Lost:
    """A round for which no verdict will come: why, as the label it is counted under."""

    round: int
    attempt: int
    cause: str


def without_verdict(event: Verdict | Lost) -> Verdict | Lost:
    """A pool that had no time for the round has lost it, whatever it writes: the next one may go through."""
    if isinstance(event, Verdict) and event.status in (Status.OVERLOADED, Status.EXPIRED):
        return Lost(event.round, event.attempt, event.status.value)
    return event


class VerifierClient(Protocol):
    """What a session needs of the other side. ``open``, ``submit`` and ``cancel`` return the payload bytes handed over."""

    def verdicts(self, session: bytes) -> asyncio.Queue[Verdict | Lost]:
        """The queue on which this session's verdicts arrive; registered before ``open``, dropped by ``release``."""
        ...

    def release(self, session: bytes) -> None:
        """Forget the session's queue; verdicts that still come are dropped."""
        ...

    async def open(self, message: Open) -> int:
        """Announce a session (or re-announce it with all ids). Raises ``LinkDown``."""
        ...

    async def submit(self, message: CandidateBatch) -> int:
        """Upload one round. Raises ``LinkDown``."""
        ...

    async def cancel(self, message: Cancel) -> int:
        """End a session; never raises ``LinkDown``."""
        ...
