"""Seconds and number of calls of an object's methods, from the outside."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class Stopwatch:
    """``seconds`` of processor time that calls took, reading the clock included: too much rather than too little."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls = 0

    def around(self, thing: object) -> Any:
        """Like ``thing``, with each call of one of its methods timed, and those of what ``labels`` returns."""
        return _Timed(self, thing)

    def time(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        started = time.thread_time()
        try:
            return function(*arguments, **named)
        finally:
            self.seconds += time.thread_time() - started
            self.calls += 1


class _Timed:
    def __init__(self, watch: Stopwatch, thing: object) -> None:
        self._watch, self._thing = watch, thing

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._thing, name)
        if not callable(found):
            return found
        if name == "labels":
            return lambda *values: _Timed(self._watch, self._watch.time(found, *values))
        return lambda *arguments, **named: self._watch.time(found, *arguments, **named)


class Silent:
    """A meter that does nothing."""

    def __getattr__(self, name: str) -> Callable[..., Silent]:
        return lambda *arguments, **named: self


def each(meters: object, wrap: Callable[[Any], Any]) -> None:
    """Put ``wrap`` of it in the place of each meter that ``meters`` holds."""
    for name, value in list(vars(meters).items()):
        setattr(meters, name, wrap(value))
