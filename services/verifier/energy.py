"""What passes cost in joules, and whose they are.

All that the meter counts is told: under ``verify`` and ``prefill`` what was spent during passes, under ``idle`` the rest. A
pass's energy is shared by the tokens that were fed for each session; what a session's prefix has cost goes with its next
verdict. Shares are whole microjoules and add up to their pass exactly.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from services.common.energy.meter import Source
from services.common.energy.profiles import Server
from services.common.energy.share import micro, shares
from services.common.energy.supply import Supply

IDLE = "idle"
COMPONENTS = ("verify", "prefill", IDLE)
REMEMBERED = 4096  # sessions whose prefix was fed and whose round has not come: more have been left by their device

T = TypeVar("T")
Count = Callable[[str, Source, int], None]  # component, source, microjoules


@dataclass(frozen=True)
class Spent:
    """Estimated, if any part of it is."""

    microjoules: int
    source: Source

    def __add__(self, other: Spent) -> Spent:
        source = self.source if self.source is other.source else Source.ESTIMATED
        return Spent(self.microjoules + other.microjoules, source)


class PassEnergy:
    """``around`` is called on the engine thread, ``tick`` on any."""

    def __init__(self, supply: Supply, server: Server, count: Count, clock: Callable[[], float] = time.monotonic) -> None:
        self._supply, self._server, self._count, self._clock = supply, server, count, clock
        self._lock = threading.Lock()
        self._phase = IDLE
        self._spent = Spent(0, Source.MEASURED)  # in the pass under way
        self._then = clock()

    def around(self, phase: str, work: Callable[[], T]) -> tuple[T, Spent]:
        """``work()``, and what it cost; what it raises goes on, once its energy has been counted."""
        self._turn(phase)
        try:
            result = work()
        finally:
            spent = self._turn(IDLE)
        return result, spent

    def tick(self) -> None:
        """Tell what has been spent up to now: idle time too shows while it lasts."""
        with self._lock:
            self._advance()

    def _turn(self, phase: str) -> Spent:
        with self._lock:
            self._advance()
            spent, self._spent, self._phase = self._spent, Spent(0, Source.MEASURED), phase
            return spent

    def _advance(self) -> None:
        reading, now = self._supply.read(), self._clock()
        idle = self._phase == IDLE
        watts = (self._server.idle_watts or 0.0) if idle else self._server.watts
        microjoules, source = self._supply.take(reading, micro(watts * (now - self._then)))
        self._then = now
        self._count(self._phase, source, microjoules)
        if not idle:
            self._spent += Spent(microjoules, source)


class SessionEnergy:
    """Who of a pass is charged how much."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._ahead: OrderedDict[bytes, Spent] = OrderedDict()

    def prefilled(self, sessions: Sequence[bytes], fed: Sequence[int], spent: Spent) -> None:
        """Kept for the sessions' next verdicts."""
        for session, part in zip(sessions, _parts(spent, fed), strict=True):
            before = self._ahead.pop(session, None)
            self._ahead[session] = part if before is None else before + part
        while len(self._ahead) > self._remembered:
            self._ahead.popitem(last=False)

    def verified(self, sessions: Sequence[bytes], fed: Sequence[int], spent: Spent) -> list[Spent]:
        """What each verdict of the pass tells."""
        before = [self._ahead.pop(session, None) for session in sessions]
        return [part if b is None else b + part for part, b in zip(_parts(spent, fed), before, strict=True)]

    def forget(self, session: bytes) -> None:
        self._ahead.pop(session, None)


def _parts(spent: Spent, fed: Sequence[int]) -> list[Spent]:
    return [Spent(part, spent.source) for part in shares(spent.microjoules, fed)]
