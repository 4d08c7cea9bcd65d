"""When requests are due, and of which client. Pure, seeded.

An open loop: a client does not wait for its last answer, so a slow system is not asked less (no coordinated omission).
"""

from __future__ import annotations

import bisect
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Arrival:
    """``at``: seconds after the begin of the load."""

    at: float
    client: int


@dataclass(frozen=True)
class Phase:
    """From ``at`` seconds on, ``rate`` requests a second of all clients together."""

    at: float
    rate: float


class Schedule:
    """A rate that changes in steps. Raises ``ValueError`` with one line where the phases make no sense."""

    def __init__(self, phases: Sequence[Phase], duration: float) -> None:
        ordered = sorted(phases, key=lambda phase: phase.at)
        if not ordered or ordered[0].at != 0.0:
            raise ValueError("a schedule begins at second 0")
        if len({phase.at for phase in ordered}) < len(ordered):
            raise ValueError("two steps of the rate at the same second")
        if any(phase.rate < 0.0 for phase in ordered):
            raise ValueError("a rate cannot be negative")
        if ordered[-1].at >= duration:
            raise ValueError(f"the rate changes at second {ordered[-1].at:g}, but the load ends at second {duration:g}")
        self.phases = tuple(ordered)
        self.duration = duration
        self._starts = [phase.at for phase in ordered]

    def number(self, at: float) -> int:
        """Which phase it is at second ``at``."""
        return bisect.bisect_right(self._starts, at) - 1

    def end(self, number: int) -> float:
        """The second at which phase ``number`` ends."""
        return self._starts[number + 1] if number + 1 < len(self._starts) else self.duration

    def after(self, at: float, requests: float) -> float | None:
        """The second by which ``requests`` more than by ``at`` are expected; ``None``: not before the end."""
        for number in range(self.number(at), len(self.phases)):
            rate, end = self.phases[number].rate, self.end(number)
            room = rate * (end - at)
            if requests < room:
                return at + requests / rate
            requests -= room
            at = end
        return None


def poisson(schedule: Schedule, clients: int, seed: int) -> Iterator[Arrival]:
    """Independent clients of the same rate: together a Poisson process of the schedule's, each request any client's."""
    draw = random.Random(seed)
    at: float | None = 0.0
    while at is not None:
        at = schedule.after(at, draw.expovariate(1.0))
        if at is not None:
            yield Arrival(at, draw.randrange(clients))
