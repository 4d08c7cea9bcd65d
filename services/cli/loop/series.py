"""From raw samples to what a budget is held against: rates and quantiles over a window, on a grid of times. Pure.

A counter is taken as growing evenly between two scrapes, and from zero one scrape before its first. Where Prometheus was away
nothing is known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from services.cli import scrape
from services.cli.loop.record import Raw
from services.common.catalogue import edge, verifier
from services.common.rng import Floats

BUSY, ROUNDS, TOKENS = verifier.ENGINE_BUSY.series, edge.ROUNDS.series, edge.TOKENS.series
AUDIT, SESSIONS = edge.AUDIT_REJECTION.series, edge.SESSIONS.series
TRIPS = f"{edge.ROUND_TRIP.series}_bucket"
ALERTS = "ALERTS"
NAMES = (BUSY, ROUNDS, TOKENS, AUDIT, SESSIONS, TRIPS, ALERTS)
GAP_SCRAPES = 3.5  # no sample for so many scrapes: away
JUDGED = ("accepted", "corrected")
# The same while it runs; ``{window}`` in seconds.
LIVE = {
    "utilisation": f"avg(rate({BUSY}[{{window}}s]))",
    "round_trip_p95": f"histogram_quantile(0.95, sum by (le) (rate({TRIPS}[{{window}}s])))",
    "damage": f"sum(rate({AUDIT}[{{window}}s])) / sum(rate({TOKENS}[{{window}}s]))",
    "upload_rate": f'sum(rate({TOKENS}{{{{decision=~"{"|".join(JUDGED)}"}}}}[{{window}}s])) / sum(rate({TOKENS}[{{window}}s]))',
}


@dataclass(frozen=True)
class Series:
    """Each ``[times]``, NaN where unknown; ``at``: seconds after the begin of the load. ``damage`` and ``upload_rate`` per
    answered token; ``utilisation`` mean over the verifiers; ``sessions``: answers being written."""

    at: Floats
    utilisation: Floats
    round_trip_p95: Floats
    damage: Floats
    upload_rate: Floats
    tokens_per_second: Floats
    unverified: Floats
    rounds_per_second: Floats
    sessions: Floats


class Counters:
    """Increases of what was recorded, over ``window`` seconds up to each time of the grid ``at`` (seconds since 1970)."""

    def __init__(self, found: Sequence[Raw], at: Floats, *, window: float, scrape_seconds: float) -> None:
        self._by_name: dict[str, list[Raw]] = defaultdict(list)
        for raw in found:
            self._by_name[raw.name].append(raw)
        self._at, self._window, self._scrape = at, window, scrape_seconds

    def increase(self, name: str, of: Callable[[Raw], bool] = lambda _: True) -> Floats:
        """Summed over all series of ``name`` that ``of`` takes."""
        mine = [raw for raw in self._by_name[name] if of(raw)]
        if not mine:
            return np.zeros_like(self._at)
        grown: Floats = np.sum([self._value(raw, self._at) - self._value(raw, self._at - self._window) for raw in mine], axis=0)
        return grown

    def count(self, name: str) -> int:
        return max(1, len(self._by_name[name]))

    def gauge(self, name: str) -> Floats:
        """The last sample, summed over all series."""
        out = np.zeros_like(self._at)
        for raw in self._by_name[name]:
            last = np.searchsorted(raw.at, self._at, side="right") - 1
            out += np.where(self._known(raw.at, self._at) & (last >= 0), raw.values[np.maximum(last, 0)], np.nan)
        return out

    def quantile(self, name: str, share: float) -> Floats:
        """Of a histogram, by its buckets (``name`` with `_bucket`)."""
        bounds = sorted({float(raw.labels["le"]) for raw in self._by_name[name]})
        rows = [self.increase(name, partial(_of_bound, bound)) for bound in bounds]
        out = np.full_like(self._at, np.nan)
        for i in range(len(self._at)):
            column = {bound: float(row[i]) for bound, row in zip(bounds, rows, strict=True)}
            value = scrape.quantile(column, share) if all(np.isfinite(list(column.values()))) else None
            out[i] = np.nan if value is None else value
        return out

    def _value(self, raw: Raw, at: Floats) -> Floats:
        times = np.concatenate([[raw.at[0] - self._scrape], raw.at])
        values = np.concatenate([[0.0], raw.values])
        found = np.interp(at, times, values, left=0.0, right=np.nan)
        out: Floats = np.where(self._known(times, at), found, np.nan)
        return out

    def _known(self, times: Floats, at: Floats) -> npt.NDArray[np.bool_]:
        """Whether there is no gap at that time."""
        after = np.clip(np.searchsorted(times, at), 1, len(times) - 1)
        narrow = times[after] - times[after - 1] <= GAP_SCRAPES * self._scrape
        known: npt.NDArray[np.bool_] = narrow | (at <= times[after - 1]) | (at >= times[after])
        return known


def _of_bound(bound: float, raw: Raw) -> bool:
    return float(raw.labels["le"]) == bound


def series(found: Sequence[Raw], begin: float, end: float, *, window: float, scrape_seconds: float) -> Series:
    """On a grid of one scrape. ``begin``, ``end``: of the load, seconds since 1970."""
    at = np.arange(0.0, end - begin, scrape_seconds)
    counters = Counters(found, begin + at, window=window, scrape_seconds=scrape_seconds)
    tokens = counters.increase(TOKENS)
    answered = np.where(tokens > 0.0, tokens, np.nan)
    judged = counters.increase(TOKENS, lambda raw: raw.labels["decision"] in JUDGED)
    return Series(
        at=at,
        utilisation=counters.increase(BUSY) / window / counters.count(BUSY),
        round_trip_p95=counters.quantile(TRIPS, 0.95),
        damage=counters.increase(AUDIT) / answered,
        upload_rate=judged / answered,
        tokens_per_second=tokens / window,
        unverified=counters.increase(TOKENS, lambda raw: raw.labels["decision"] == "unverified") / answered,
        rounds_per_second=counters.increase(ROUNDS) / window,
        sessions=counters.gauge(SESSIONS),
    )


def alerts(found: Sequence[Raw], begin: float) -> list[tuple[str, float]]:
    """Alerts that fired, each with the second of the load at which it first did."""
    first: dict[str, float] = {}
    for raw in found:
        if raw.name == ALERTS and raw.labels.get("alertstate") == "firing":
            name = raw.labels["alertname"]
            first[name] = min(first.get(name, np.inf), float(raw.at[0]) - begin)
    return sorted(first.items(), key=lambda item: item[1])
