"""The seam to whatever measures energy."""

from __future__ import annotations

import enum
from typing import Protocol


class Source(enum.StrEnum):
    """Where a figure comes from. One that is in part estimated is ``estimated``."""

    MEASURED = "measured"
    ESTIMATED = "estimated"


class MeterError(RuntimeError):
    """There is no meter, or it cannot be read (any more); ``str`` is one line that says why."""


class EnergyMeter(Protocol):
    """Energy since some moment in the past."""

    def microjoules(self) -> int:
        """Never less than before. May take milliseconds and be called on any thread, one call at a time. Raises
        ``MeterError``."""
        ...


class FakeMeter:
    """For tests and trials: reads what is set. ``broken``: why it cannot be read."""

    def __init__(self, microjoules: int = 0) -> None:
        self.value = microjoules
        self.broken = ""

    def microjoules(self) -> int:
        if self.broken:
            raise MeterError(self.broken)
        return self.value
