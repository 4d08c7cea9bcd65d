"""One run from its begin to its end: load, steps, Prometheus stopped and started, and what was recorded of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import psutil

from services.cli.errors import CommandError
from services.cli.loop import series as figures
from services.cli.loop.live import Now
from services.cli.loop.plot import Run
from services.cli.loop.record import Reader
from services.cli.loop.site import LOAD, Site
from services.cli.loop.verdict import Span, Turn, changes, verdict

TURN_SECONDS = 0.5
END_SECONDS = 60.0


@dataclass
class Play:
    """``show`` gets the newest values twice a second."""

    site: Site
    reader: Reader
    show: Callable[[Now], None]
    now: Now = field(default_factory=Now)
    away: Span | None = None
    _begin: float = 0.0
    _entries: list[dict[str, Any]] = field(default_factory=list)
    _asked: float = 0.0
    _loads: list[float] = field(default_factory=list)  # of the machine

    def run(self, seed: int) -> None:
        """To the end of the load. Raises ``CommandError`` where a part dies."""
        times, rate = self.site.times, self.site.fleet.rate
        phases = [(phase.at, phase.rate) for phase in times.schedule(rate).phases]
        self.site.start_load(phases, times.end, seed)
        self._begin = time.time()
        self._until(times.down_at + times.after)
        if times.away_at is not None and times.back_at is not None:
            gone = self._at
            self.now.prometheus = False
            self.site.stop_prometheus()
            self._until(times.back_at)
            self.site.start_prometheus()
            self.away = (gone, self._at)
            self.now.prometheus = True
        self._until(times.end)
        self._finish()

    @property
    def _at(self) -> float:
        return time.time() - self._begin

    def _until(self, second: float) -> None:
        while self._at < second:
            self._check()
            self._look()
            self.show(self.now)
            time.sleep(min(TURN_SECONDS, max(0.0, second - self._at)))

    def _check(self) -> None:
        for child in self.site.nursery.dead():
            if child.name != LOAD or self.site.load() is None:
                raise CommandError(child.describe_death())

    def _look(self) -> None:
        """The newest decision at once, figures once a scrape."""
        times, schedule = self.site.times, self.site.times.schedule(self.site.fleet.rate)
        self._entries += self.site.new_decisions()
        self._loads.append(psutil.getloadavg()[0])
        at = min(self._at, schedule.duration)
        phase = schedule.number(at)
        name = ("before the step", "load x5", "after the step")[phase]
        turn = Turn.read(self._entries[-1], self._begin) if self._entries else None
        self.now = replace(self.now, at=at, part=name, rate=schedule.phases[phase].rate, turn=turn)
        if self._at - self._asked >= times.scrape:
            self._asked = self._at
            self.now.values = {n: self.reader.now(q.format(window=f"{times.window:g}")) for n, q in figures.LIVE.items()}

    def _finish(self) -> None:
        """Waits for the load's report."""
        end = time.monotonic() + END_SECONDS
        while self.site.load() is None:
            self._check()
            if time.monotonic() > end:
                raise CommandError("the load did not end")
            time.sleep(TURN_SECONDS)

    def found(self) -> tuple[Run, dict[str, Any]]:
        """What was recorded, and its account. Prometheus must still run."""
        load = self.site.load()
        if load is None:
            raise CommandError("the load has left no report")
        self._entries += self.site.new_decisions()
        begin, times, fleet = float(load["started_at"]), self.site.times, self.site.fleet
        raw = self.reader.raw(figures.NAMES, begin - 2.0 * times.window, begin + times.end)
        series = figures.series(raw, begin, begin + times.end, window=times.window, scrape_seconds=times.scrape)
        turns = [Turn.read(entry, begin) for entry in self._entries]
        run = Run(fleet, times, series, turns, self._entries, load, self.away)
        return run, {
            "fleet": asdict(fleet),
            "times": asdict(times),
            "verdict": verdict(series, turns, fleet, times, self.away),
            "away": self.away,
            "machine_load": {
                "mean": round(sum(self._loads) / max(1, len(self._loads)), 2),
                "max": max(self._loads, default=0.0),
            },
            "alerts": [{"name": name, "at": round(at, 1)} for name, at in figures.alerts(raw, begin)],
            "changes": [asdict(turn) for turn in changes(turns)],
            "series": {name: _rounded(values) for name, values in vars(series).items()},
            "load": {name: value for name, value in load.items() if name not in ("timeline", "urls")},
        }


def _rounded(values: Any) -> list[float | None]:
    return [round(float(value), 4) if np.isfinite(value) else None for value in values]
