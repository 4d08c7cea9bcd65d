"""What a run was worth: recovery, overshoot, calm, damage and goodput, all of the world's own figures. Pure.

A budget counts as met by the mean (for the round trip: the 95th percentile) of the last ``WINDOW`` seconds; the damage by its
mean over ``DAMAGE_WINDOW`` seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.common.rng import Floats
from services.policy.budgets import Budgets
from services.simulate.run import Sample, Trace
from services.simulate.scenarios import WARM_SECONDS
from services.simulate.sensors import quantile

WINDOW = 10
DAMAGE_WINDOW = 60
DAMAGE_AFTER = 15.0  # seconds after a disturbance from which the damage counts
STEADY_AFTER = 60.0
MET = 10  # seconds in a row without a broken budget


@dataclass(frozen=True)
class Score:
    """See the issue's figures: ``goodput`` in tokens a second from the end of the warm-up, unverified ones left out."""

    recovery_seconds: float | None
    overshoot: float
    direction_changes_per_minute: float
    damage_max_relative_to_limit: float
    goodput: float
    infeasible_told: tuple[str, ...]


def score(trace: Trace, fleet: int = 0) -> Score:
    """Of one fleet of a trace."""
    at = np.array([s.at for s in trace.samples])
    excess = excesses(trace, fleet)
    disturbed = trace.scenario.disturbed_at
    recovered = _recovery(at, excess, disturbed)
    after = excess[at >= disturbed + (recovered if recovered is not None else 0.0)]
    told: set[str] = set()
    for _, decisions in trace.decisions:
        told |= {name for d in decisions.values() for name in d.infeasible}
    return Score(
        recovery_seconds=recovered,
        overshoot=float(max(0.0, after.max())) if recovered is not None else float(max(0.0, excess[at >= disturbed].max())),
        direction_changes_per_minute=_direction_changes(trace, fleet, disturbed + STEADY_AFTER),
        damage_max_relative_to_limit=damage(trace, fleet),
        goodput=goodput(trace, fleet),
        infeasible_told=tuple(sorted(told)),
    )


def excesses(trace: Trace, fleet: int) -> Floats:
    """For each sample the largest relative excess over any budget but the damage, below zero where all are met; the first
    ``WINDOW`` samples have none."""
    out = np.full(len(trace.samples), -1.0)
    for i in range(WINDOW, len(trace.samples)):
        a, b = trace.samples[i - WINDOW], trace.samples[i]
        out[i] = max(_relative(a, b, budgets_at(trace, b.at), fleet), default=-1.0)
    return out


def budgets_at(trace: Trace, at: float) -> Budgets:
    return [b for since, b in trace.budgets if since < at][-1]


def _relative(a: Sample, b: Sample, budgets: Budgets, fleet: int) -> list[float]:
    seconds = b.at - a.at
    out = []
    if budgets.utilisation is not None:
        out.append(float(b.busy[fleet] - a.busy[fleet]) / seconds / max(b.alive, 1) / budgets.utilisation - 1.0)
    if budgets.watts is not None:
        out.append(float(b.pool_joules[fleet] - a.pool_joules[fleet]) / seconds / budgets.watts - 1.0)
    if budgets.round_trip_seconds is not None:
        trips = b.round_trips[fleet] - a.round_trips[fleet]
        out += [quantile(0.95, row) / budgets.round_trip_seconds - 1.0 for row in trips if row.sum() > 0.0]
    if budgets.joules_per_token is not None:
        answered = np.maximum(b.answered[fleet] - a.answered[fleet], 1.0)
        out += [float(j) / budgets.joules_per_token - 1.0 for j in (b.joules[fleet] - a.joules[fleet]) / answered]
    return out


def _recovery(at: Floats, excess: Floats, disturbed: float) -> float | None:
    """Seconds from the disturbance until no budget is broken for ``MET`` seconds, after the first one that broke; 0: none did,
    ``None``: never again."""
    good = excess <= 0.0
    broken = np.flatnonzero((at > disturbed) & ~good)
    if not len(broken) or at[broken[0]] > disturbed + STEADY_AFTER:
        return 0.0
    for i in range(int(broken[0]), len(at) - MET + 1):
        if good[i : i + MET].all():
            return float(at[i] - disturbed)
    return None


def damage(trace: Trace, fleet: int) -> float:
    """Largest damage of any class, over its limit, in the windows that begin ``DAMAGE_AFTER`` the disturbance or lie between
    warm-up and disturbance."""
    disturbed, samples = trace.scenario.disturbed_at, trace.samples
    worst = 0.0
    for i in range(len(samples) - DAMAGE_WINDOW):
        a, b = samples[i], samples[i + DAMAGE_WINDOW]
        before = a.at >= WARM_SECONDS - DAMAGE_WINDOW / 2 and b.at <= disturbed
        if before or a.at >= disturbed + DAMAGE_AFTER:
            answered = np.maximum(b.answered[fleet] - a.answered[fleet], 1.0)
            mean = (b.true_audit[fleet] - a.true_audit[fleet]) / answered
            worst = max(worst, float(mean.max()) / budgets_at(trace, b.at).damage)
    return worst


def goodput(trace: Trace, fleet: int) -> float:
    """Tokens a second of all classes after the warm-up."""
    first = next(s for s in trace.samples if s.at >= WARM_SECONDS)
    last = trace.samples[-1]
    return float((last.good[fleet] - first.good[fleet]).sum() / (last.at - first.at))


def _direction_changes(trace: Trace, fleet: int, since: float) -> float:
    """Of the knob and class that turns most often, a minute."""
    steady = [s for s in trace.samples if s.at >= since]
    if len(steady) < 2:
        return 0.0
    minutes = (steady[-1].at - steady[0].at) / 60.0
    values = np.stack([s.settings[fleet] for s in steady])  # [seconds, classes, knobs]
    most = 0
    for row in values.reshape(len(steady), -1).T:
        steps = np.sign(np.diff(row))
        steps = steps[steps != 0.0]
        most = max(most, int((np.diff(steps) != 0.0).sum()))
    return most / minutes


def feasible(trace: Trace, fleet: int) -> bool:
    """Whether a fixed setting meets every budget from the warm-up to the disturbance, and from ``STEADY_AFTER`` it on: each
    by its mean over that time."""
    disturbed = trace.scenario.disturbed_at
    parts = [(WARM_SECONDS, disturbed), (disturbed + STEADY_AFTER, trace.scenario.end)]
    for begin, end in parts:
        inside = [s for s in trace.samples if begin <= s.at <= end]
        if len(inside) < 2:
            continue
        a, b = inside[0], inside[-1]
        budgets = budgets_at(trace, b.at)
        answered = np.maximum(b.answered[fleet] - a.answered[fleet], 1.0)
        mean = (b.true_audit[fleet] - a.true_audit[fleet]) / answered
        if float(mean.max()) > budgets.damage or max(_relative(a, b, budgets, fleet), default=-1.0) > 0.0:
            return False
    return True
