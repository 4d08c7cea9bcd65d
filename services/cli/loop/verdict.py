"""What a run shows: budgets met again, how calm the knobs were, what happened without Prometheus. Pure.

A budget counts as broken by the mean over the policy's own window; with few devices shorter means are mostly noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from services.cli.loop.plan import Fleet, Times
from services.cli.loop.series import Series
from services.common.rng import Floats

Span = tuple[float, float]  # seconds of the load

MET_SCRAPES = 3  # in a row without a broken budget
DAMAGE_WINDOWS = 3.0  # the damage counts by its mean over so many windows
SETTLED = 0.4  # of a part: from there to its end it counts as steady


@dataclass(frozen=True)
class Turn:
    """One decision, ``at`` seconds of the load."""

    at: float
    k: int
    gamma: float
    source: str
    reason: str

    @classmethod
    def read(cls, entry: dict[str, Any], begin: float) -> Turn:
        return cls(
            round(entry["at"] - begin, 2), int(entry["k"]), float(entry["gamma"]), str(entry["source"]), str(entry["reason"])
        )


def changes(turns: Sequence[Turn]) -> list[Turn]:
    """Those at which knobs or source changed, the first one among them."""
    out: list[Turn] = []
    for turn in turns:
        if not out or (turn.k, turn.gamma, turn.source) != (out[-1].k, out[-1].gamma, out[-1].source):
            out.append(turn)
    return out


def verdict(series: Series, turns: Sequence[Turn], fleet: Fleet, times: Times, away: Span | None) -> dict[str, Any]:
    """The figures, by part of the run, and in ``failures`` what did not hold. ``away``: when Prometheus really was."""
    parts = {"before": (0.0, times.up_at), "step": (times.up_at, times.down_at)}
    parts["after"] = (times.down_at, times.down_at + times.after)
    steady = {name: _steady(series, turns, begin, end) for name, (begin, end) in parts.items()}
    up, back = _moves(steady)
    found = {
        "budgets": {"utilisation": fleet.utilisation, "damage": fleet.damage},
        "steady": steady,
        **_recovery(series, fleet.utilisation, times),
        "upload_rate_fell_by": up,
        "upload_rate_rose_again_by": back,
        "direction_changes_per_minute": _turns(turns, times),
        "damage_max_relative_to_limit": _damage(series, fleet.damage, times),
    }
    if away is not None:
        found["prometheus_away"] = _away(turns, *away)
    return {**found, "failures": _failures(found)}


def _failures(found: dict[str, Any]) -> list[str]:
    """What a run is to show and did not, a line each."""
    out = []
    if found["recovery_seconds"] is None:
        out.append("the step broke the utilisation budget, and it was not met again")
    if not found["upload_rate_fell_by"] or found["upload_rate_fell_by"] <= 0.0:
        out.append("the upload rate did not fall in the step")
    if not found["upload_rate_rose_again_by"] or found["upload_rate_rose_again_by"] <= 0.0:
        out.append("the upload rate did not rise again after the step")
    gone = found.get("prometheus_away", {})
    wanted = ("held_after_seconds", "safe_after_seconds", "resumed_after_seconds") if gone else ()
    out += [f"without Prometheus: no {name}" for name in wanted if gone[name] is None]
    if gone and not gone["held_knobs_stayed"]:
        out.append("without Prometheus: the knobs moved before the safe setting")
    return out


def _steady(series: Series, turns: Sequence[Turn], begin: float, end: float) -> dict[str, float | None]:
    """Means over the later part: knobs by time, the rest by sample."""
    begin = end - (1.0 - SETTLED) * (end - begin)
    inside = (series.at > begin) & (series.at <= end)
    grid = series.at[inside]
    knobs = [at_time(turns, at) for at in grid]
    told = [turn for turn in knobs if turn is not None]
    names = ("utilisation", "round_trip_p95", "damage", "upload_rate", "tokens_per_second", "unverified", "sessions")
    return {
        "k": _mean(np.array([float(turn.k) for turn in told])),
        "gamma": _mean(np.array([turn.gamma for turn in told])),
        **{name: _mean(getattr(series, name)[inside]) for name in names},
    }


def at_time(turns: Sequence[Turn], at: float) -> Turn | None:
    """The decision in force."""
    found = None
    for turn in turns:
        if turn.at > at:
            break
        found = turn
    return found


def _mean(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(round(known.mean(), 5)) if len(known) else None


def _moves(steady: dict[str, dict[str, float | None]]) -> tuple[float | None, float | None]:
    """By how much of itself the upload rate fell in the step, and rose again after it."""
    before, during, after = (steady[name]["upload_rate"] for name in ("before", "step", "after"))
    if not before or not during or after is None:
        return None, None
    return round(1.0 - during / before, 4), round(after / during - 1.0, 4)


def _recovery(series: Series, budget: float, times: Times) -> dict[str, float | None]:
    """Of the utilisation, from the step on. ``broken_after_seconds``: its first sample over the budget, ``None`` if there is
    none; ``recovery_seconds``: the first of some in a row inside it after that, 0 if none broke it, ``None`` if it stayed
    broken. From there to the end of the step, ``overshoot``: the largest excess, ``share_over``: of samples with one."""
    inside = (series.at > times.up_at) & (series.at <= times.down_at) & np.isfinite(series.utilisation)
    at, excess = series.at[inside] - times.up_at, series.utilisation[inside] / budget - 1.0
    broken = np.flatnonzero(excess > 0.0)
    begin = int(broken[0]) if len(broken) else None
    end: int | None = 0
    if begin is not None:
        good: npt.NDArray[np.bool_] = excess <= 0.0
        starts = range(begin, len(at) - MET_SCRAPES + 1)
        end = next((i for i in starts if good[i : i + MET_SCRAPES].all()), None)
    rest = excess[end:] if end is not None else excess[:0]
    return {
        "broken_after_seconds": None if begin is None else float(round(at[begin], 2)),
        "recovery_seconds": None if end is None else float(round(at[end], 2)) if begin is not None else 0.0,
        "overshoot": float(round(max(0.0, rest.max()), 4)) if len(rest) else None,
        "share_over": float(round((rest > 0.0).mean(), 4)) if len(rest) else None,
        "peak": _most(series.utilisation[inside]),
    }


def _most(values: Floats) -> float | None:
    return float(round(values.max(), 4)) if len(values) else None


def _turns(turns: Sequence[Turn], times: Times) -> dict[str, float]:
    """Changes of direction a minute of each knob, in the steady part of the step."""
    begin = times.down_at - (1.0 - SETTLED) * times.step
    steady = [turn for turn in turns if begin < turn.at <= times.down_at]
    minutes = (1.0 - SETTLED) * times.step / 60.0
    out = {}
    for name in ("k", "gamma"):
        steps = np.sign(np.diff([float(getattr(turn, name)) for turn in steady]))
        steps = steps[steps != 0.0]
        out[name] = float(round(int((np.diff(steps) != 0.0).sum()) / minutes, 2))
    return out


def _damage(series: Series, limit: float, times: Times) -> float | None:
    """Largest mean over some windows, over its limit."""
    wide = round(DAMAGE_WINDOWS * times.window / times.scrape)
    means = []
    for i in range(wide, len(series.at) + 1):
        part = series.damage[i - wide : i] * series.tokens_per_second[i - wide : i]
        tokens = series.tokens_per_second[i - wide : i]
        if np.isfinite(part).all() and tokens.sum() > 0.0:
            means.append(part.sum() / tokens.sum())
    return float(round(max(means) / limit, 4)) if means else None


def _away(turns: Sequence[Turn], away_at: float, back_at: float) -> dict[str, Any]:
    """``held_after``, ``safe_after``: seconds from when it was stopped; ``resumed_after``: from when it was started."""
    before = at_time(turns, away_at)
    gone = [turn for turn in turns if away_at < turn.at <= back_at]
    held = [turn for turn in gone if turn.source == "hold"]
    safe = next((turn for turn in gone if turn.source == "safe"), None)
    resumed = next((turn for turn in turns if turn.at > back_at and turn.source == "control"), None)
    return {
        "held_after_seconds": _since(held[0] if held else None, away_at),
        "held_knobs_stayed": before is not None and {(t.k, t.gamma) for t in held} == {(before.k, before.gamma)},
        "safe_after_seconds": _since(safe, away_at),
        "safe": None if safe is None else {"k": safe.k, "gamma": safe.gamma},
        "resumed_after_seconds": _since(resumed, back_at),
    }


def _since(turn: Turn | None, at: float) -> float | None:
    return None if turn is None else round(turn.at - at, 2)
