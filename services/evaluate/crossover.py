"""Who wins where: the same recorded answers under other links and another load of the pool. Pure; no text is written again.

Four sweeps, each of one condition, the others as in the ``World`` that is handed in: rate of the uplink, round-trip time, share
of time in outage, and load of the pool.

Load is a queue with processor sharing (M/G/1-PS): where a share ``r`` of the server's time is taken, everything takes
``1 / (1 - r)`` times as long. All answers offered are of the method itself, ``n`` a second and server, so ``r = n * s`` with
``s`` the server seconds of a mean answer: passes and processed tokens, the prompt included. From ``n = 1 / s`` on, its
capacity, the pool is saturated and has no steady state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from services.evaluate import modelled
from services.evaluate.modelled import World
from services.evaluate.trace import Record

OUTAGE_EVERY_SECONDS = 60.0  # where the link of the run has no outages
REMOTE = "remote-llm"
Tell = Callable[[int, int], None]  # done, in all


@dataclass(frozen=True)
class Entry:
    """One method's answers. ``patient``: in an outage it waits instead of going on unverified."""

    label: str
    records: Sequence[Record]
    patient: bool
    damage: float = 0.0


@dataclass(frozen=True)
class Cell:
    """One method under one condition: ratios of sums over all answers. ``slow_seconds``: one answer in twenty takes longer.
    ``unverified``: candidates without a verdict in time, per answered token."""

    tokens_per_second: float
    seconds_per_answer: float
    slow_seconds: float
    joules_per_token: float
    unverified: float


@dataclass(frozen=True)
class Sweep:
    """``cells`` by method, in the order of ``values``; ``None``: the pool is saturated."""

    name: str
    unit: str
    logarithmic: bool
    values: tuple[float, ...]
    here: float | None
    cells: Mapping[str, tuple[Cell | None, ...]]


@dataclass(frozen=True)
class Crossover:
    """``capacity``: answers a second at which one server is saturated, by method; infinite where nothing is asked."""

    sweeps: tuple[Sweep, ...]
    capacity: Mapping[str, float]
    damage: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        return {
            "sweeps": [asdict(sweep) | {"overtakes": crossings(sweep)} for sweep in self.sweeps],
            "capacity_answers_per_second": {k: None if math.isinf(v) else v for k, v in self.capacity.items()},
            "damage": dict(self.damage),
        }


def crossover(entries: Sequence[Entry], world: World, *, seed: int, tell: Tell) -> Crossover:
    """``seed``: of the link's draws, those of the run."""
    busy = {e.label: _busy(e.records, world) for e in entries}
    capacity = {label: 1.0 / seconds if seconds else math.inf for label, seconds in busy.items()}
    plans = [_uplink(world), _round_trip(world), _outage(world), _load(world, list(capacity.values()))]
    done, total = 0, sum(len(plan.values) for plan in plans) * len(entries)
    sweeps = []
    for plan in plans:
        cells: dict[str, tuple[Cell | None, ...]] = {}
        for entry in entries:
            row = []
            for value in plan.values:
                row.append(_cell(entry, plan.world(value, busy[entry.label]), seed))
                done += 1
                tell(done, total)
            cells[entry.label] = tuple(row)
        sweeps.append(Sweep(plan.name, plan.unit, plan.logarithmic, plan.values, plan.here, cells))
    return Crossover(tuple(sweeps), capacity, {e.label: e.damage for e in entries})


def crossings(sweep: Sweep) -> dict[str, list[dict[str, float | str]]]:
    """Where a method's tokens per second pass those of ``remote-llm``, between grid points on a straight line (of the
    logarithm, where the grid is one), and which of the two is faster above."""
    theirs = sweep.cells.get(REMOTE)
    if theirs is None:
        return {}
    x = np.log(sweep.values) if sweep.logarithmic else np.array(sweep.values)
    found: dict[str, list[dict[str, float | str]]] = {}
    for label, cells in sweep.cells.items():
        lead = [_lead(mine, other) for mine, other in zip(cells, theirs, strict=True)]
        found[label] = []
        for n, (a, b) in enumerate(pairwise(lead)):
            if a is None or b is None or (a > 0) == (b > 0):
                continue
            at = float(x[n] + a / (a - b) * (x[n + 1] - x[n]))
            found[label].append({"at": math.exp(at) if sweep.logarithmic else at, "faster_above": label if b > 0 else REMOTE})
    return {label: places for label, places in found.items() if label != REMOTE}


def _lead(mine: Cell | None, theirs: Cell | None) -> float | None:
    """Tokens per second ahead; a saturated pool writes none."""
    if mine is None and theirs is None:
        return None
    return (mine.tokens_per_second if mine else 0.0) - (theirs.tokens_per_second if theirs else 0.0)


def _busy(records: Sequence[Record], world: World) -> float:
    """Server seconds of a mean answer."""
    return float(np.mean([world.server.busy_seconds(r.passes, r.prompt_fed + r.fed) for r in records]))


def _cell(entry: Entry, world: World | None, seed: int) -> Cell | None:
    if world is None:
        return None
    found = [modelled.run(record, world, patient=entry.patient, seed=seed) for record in entry.records]
    answered = sum(record.answered for record in entry.records)
    seconds = np.array([one.seconds for one in found])
    joules, unverified = sum(one.joules for one in found), sum(one.unverified for one in found)
    return Cell(
        tokens_per_second=answered / float(seconds.sum()),
        seconds_per_answer=float(seconds.mean()),
        slow_seconds=float(np.percentile(seconds, 95)),
        joules_per_token=joules / answered,
        unverified=unverified / answered,
    )


# -- conditions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """``here``: the value in the run's own world. ``world``: of a value and of the server seconds of a mean answer."""

    name: str
    unit: str
    logarithmic: bool
    values: tuple[float, ...]
    here: float | None
    world: Callable[[float, float], World | None]


def _uplink(world: World) -> _Plan:
    """The rate without fading; the downlink stays."""
    link = world.link
    here = link.rate(link.uplink_hz, 1.0)

    def at(bits: float, _: float) -> World:
        return replace(world, link=link.model_copy(update={"uplink_hz": link.uplink_hz * bits / here}))

    return _Plan("uplink rate", "bit/s", True, _grid(1e3, 1e7, 13), here, at)


def _round_trip(world: World) -> _Plan:
    def at(seconds: float, _: float) -> World:
        return replace(world, link=world.link.model_copy(update={"rtt_seconds": seconds}))

    return _Plan("round-trip time", "s", True, _grid(0.005, 2.0, 11), world.link.rtt_seconds or None, at)


def _outage(world: World) -> _Plan:
    link = world.link
    every = link.outage_every_seconds or OUTAGE_EVERY_SECONDS

    def at(share: float, _: float) -> World:
        update = {"outage_every_seconds": every, "outage_seconds": share * every}
        return replace(world, link=link.model_copy(update=update))

    here = link.outage_seconds / every
    return _Plan("share of time in outage", f"outages every {every:g} s", False, tuple(n / 10 for n in range(9)), here, at)


def _load(world: World, capacities: Sequence[float]) -> _Plan:
    """Up to the capacity of the method that loads the pool least."""
    most = max((c for c in capacities if math.isfinite(c)), default=1.0)

    def at(answers: float, busy: float) -> World | None:
        taken = answers * busy
        if taken >= 1.0:
            return None
        return replace(world, server=world.server.model_copy(update={"slowdown": world.server.slowdown / (1.0 - taken)}))

    return _Plan("offered load", "answers/s per server", False, tuple(float(n) for n in np.linspace(0.0, most, 25)), None, at)


def _grid(low: float, high: float, count: int) -> tuple[float, ...]:
    return tuple(float(f"{value:.3g}") for value in np.geomspace(low, high, count))
