"""Keep trying while a remote part is away: one log line when it goes, one when it is back, readiness off in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from services.common.lifecycle import Backoff
from services.common.telemetry import Telemetry

T = TypeVar("T")


class Link:
    """One remote part, by name: its outages, and a readiness condition. ``needed`` false: the service does its work without it,
    so that it is told at ``/readyz`` and readiness does not wait for it."""

    def __init__(self, name: str, telemetry: Telemetry, *, needed: bool = True) -> None:
        self.name = name
        self._telemetry = telemetry
        self._states = telemetry.health.conditions if needed else telemetry.health.notes
        self.told = False  # whether the outage that goes on has been logged
        self._log = structlog.get_logger().bind(link=name)
        telemetry.link(name, up=False)

    @property
    def up(self) -> bool:
        return self._states.get(self.name, False)

    def good(self) -> None:
        """It has just answered."""
        self.told = False
        self._telemetry.link(self.name, up=True)
        if not self.up:
            self._states[self.name] = True
            self._telemetry.health.reasons.pop(self.name, None)
            self._log.info("link up")

    def bad(self, error: BaseException | str) -> None:
        """It has just failed."""
        if not self.told:
            self.told = True
            self._log.warning("link down; trying again until it is back", error=_line(error))
        self._telemetry.health.reasons[self.name] = _line(error)
        self._states[self.name] = False
        self._telemetry.link(self.name, up=False)

    async def insist(self, operation: Callable[[], Awaitable[T]], transient: tuple[type[Exception], ...]) -> T:
        """``operation()``, again and again while it raises one of ``transient``; must be safe to repeat."""
        backoff = Backoff(first=0.05, longest=1.0)
        while True:
            try:
                result = await operation()
            except transient as error:
                self.bad(error)
                await backoff.sleep()
            else:
                self.good()
                return result


def _line(error: BaseException | str) -> str:
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:300]
