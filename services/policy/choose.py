"""From the models of all classes to one setting each: damage bound, budgets in their order, dual ascent, goodput. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.common.rng import Floats
from services.policy import dual
from services.policy.budgets import Budgets
from services.policy.dual import Table
from services.policy.estimate import ClassModel, Predicted
from services.policy.pool import MOST_LOAD, Pool, utilisation

Cells = npt.NDArray[np.bool_]
NEAR = 1.02  # of the least: what counts as the least
PASSES = 4  # over round-trip time and load, which depend on each other


@dataclass(frozen=True)
class Asked:
    """``quality``: what a damage at its limit costs, in log goodput; ``gamma_bounds``: of each class, from its edges."""

    budgets: Budgets
    quality: float
    gamma_bounds: Mapping[str, float]


@dataclass(frozen=True)
class Chosen:
    """One class's cell ``(g, k index)``; ``gamma_max``: the risk limit at its ``k``. Each ``[G, K]``: ``utility``, minus
    infinity where a bound forbids, and ``rounds`` a second that the pool gets by the class. ``infeasible``: budgets that
    cannot be met."""

    cell: tuple[int, int]
    gamma_max: float
    utility: Floats
    rounds: Floats
    predicted: Predicted
    infeasible: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """``load`` of the pool that is expected under the choices; ``most_load``: what the budgets allow."""

    classes: dict[str, Chosen]
    price: float
    load: float
    most_load: float


def load_cap(pool: Pool, round_trips: Mapping[str, float], budgets: Budgets) -> dict[str, float]:
    """Most load by budget. ``round_trips``: 95th percentile of each class without the pool's part."""
    caps: dict[str, float] = {}
    if budgets.utilisation is not None:
        caps["utilisation"] = _largest(lambda load: utilisation(load) <= budgets.within(budgets.utilisation or 0.0))
    if budgets.watts is not None:
        caps["watts"] = _largest(lambda load: pool.watts(load) <= budgets.within(budgets.watts or 0.0))
    if budgets.round_trip_seconds is not None and round_trips:
        limit, longest = budgets.within(budgets.round_trip_seconds), max(round_trips.values())
        caps["round_trip"] = _largest(lambda load: longest + pool.waiting_p95(load) <= limit)
    return caps


def _largest(holds: Callable[[float], bool]) -> float:
    """The largest load of a fine grid for which ``holds`` (which more load never makes true again); 0 where none."""
    best = 0.0
    for load in np.linspace(0.05, MOST_LOAD, 160).tolist():
        if not holds(load):
            break
        best = load
    return best


def choose(models: Mapping[str, ClassModel], pool: Pool, asked: Asked, price: float) -> Outcome:
    """``models``: those with whole inputs, at least one."""
    waiting = {name: _link_seconds(m, pool) for name, m in models.items()}
    p95 = {name: _link_p95(m, pool) for name, m in models.items()}
    caps = load_cap(pool, {n: v for n, v in p95.items() if v is not None}, asked.budgets)
    load = min([pool.load, *caps.values()])
    out: Outcome | None = None
    for _ in range(PASSES):
        out = _at(models, pool, asked, caps, {n: link + pool.waiting(load) for n, link in waiting.items()}, price)
        load, price = 0.5 * (load + out.load), out.price
    if out is None:
        raise RuntimeError("no pass was made")
    return out


def _link_seconds(model: ClassModel, pool: Pool) -> float:
    """Round trip without the pool's part: by what rounds said of queue and pass, else by what the load explains."""
    r = model.readings
    told = {"queue_seconds", "verify_seconds"} <= r.keys()
    inside = r["queue_seconds"] + r["verify_seconds"] if told else pool.waiting(pool.load)
    return max(0.0, r["round_trip_seconds"] - inside)


def _link_p95(model: ClassModel, pool: Pool) -> float | None:
    measured = model.readings.get("round_trip_p95_seconds")
    if measured is None:
        return None
    queue = model.readings.get("queue_seconds", 0.0)
    inside = max(pool.waiting_p95(pool.load), queue + pool.pass_seconds)
    return max(_link_seconds(model, pool), measured - inside)


def _at(
    models: Mapping[str, ClassModel],
    pool: Pool,
    asked: Asked,
    caps: Mapping[str, float],
    round_trips: Mapping[str, float],
    price: float,
) -> Outcome:
    predicted = {name: m.predict(round_trips[name]) for name, m in models.items()}
    devices = {name: max(m.readings["devices"], 1e-6) for name, m in models.items()}
    total = sum(devices.values())
    bounds = {name: asked.gamma_bounds.get(name, np.inf) for name in models}
    allowed = {n: _within_risk(m, predicted[n], asked.budgets, bounds[n]) for n, m in models.items()}
    energy_broken = {n: _energy(predicted[n], allowed[n], asked.budgets) for n in models}
    utility = {
        n: (devices[n] / total)
        * (np.log(np.maximum(p.tokens_per_second, 1e-9)) - asked.quality * p.damage / asked.budgets.damage)
        for n, p in predicted.items()
    }
    rounds = {n: devices[n] * p.rounds_per_second / pool.told for n, p in predicted.items()}
    tables = {n: Table(utility[n][allowed[n]], rounds[n][allowed[n]]) for n in models}
    cap, dropped = _feasible_cap(caps, dual.least(tables), pool)
    energy_mask = {n: allowed[n] & _energy_cells(predicted[n], allowed[n], asked.budgets) for n in models}
    tight = {n: Table(utility[n][energy_mask[n]], rounds[n][energy_mask[n]]) for n in models}
    gives_way = dual.least(tight) > cap  # energy is last in the order: it may not cost the pool its budgets
    used, masks = (tables, allowed) if gives_way else (tight, energy_mask)
    solution = dual.solve(used, max(cap, 1e-9), price)
    classes = {}
    for n in models:
        where = np.argwhere(masks[n])[solution.cells[n]]
        lost = (*dropped, *(("energy",) if energy_broken[n] or gives_way else ()))
        whole = np.where(masks[n], utility[n], -np.inf)
        gamma_max = float(models[n].grid.gammas[allowed[n][:, where[1]]].max())
        classes[n] = Chosen((int(where[0]), int(where[1])), gamma_max, whole, rounds[n], predicted[n], lost)
    asked_rounds = sum(float(rounds[n][c.cell]) for n, c in classes.items())
    return Outcome(classes, solution.price, pool.load_from(asked_rounds), min(caps.values(), default=MOST_LOAD))


def _within_risk(model: ClassModel, predicted: Predicted, budgets: Budgets, bound: float) -> Cells:
    """The risk limit: for each ``k`` the gammas up to the first one that breaks the damage bound, and no further than the edges
    themselves allow. The smallest gamma always remains."""
    worst = np.maximum.accumulate(predicted.damage, axis=0)
    out: Cells = (worst <= budgets.within(budgets.damage)) & (model.grid.gammas <= bound + 1e-9)[:, None]
    out[0] = True
    return out


def _energy_cells(predicted: Predicted, allowed: Cells, budgets: Budgets) -> Cells:
    """Cells inside the budget; where none is, those near the least."""
    joules, budget = predicted.joules_per_token, budgets.joules_per_token
    if joules is None or budget is None:
        return np.ones_like(allowed)
    limit = max(budgets.within(budget), NEAR * float(joules[allowed].min()))
    out: Cells = joules <= limit
    return out


def _energy(predicted: Predicted, allowed: Cells, budgets: Budgets) -> bool:
    """Whether no allowed cell keeps the budget itself."""
    joules, budget = predicted.joules_per_token, budgets.joules_per_token
    return joules is not None and budget is not None and float(joules[allowed].min()) > budget


def _feasible_cap(caps: Mapping[str, float], least: float, pool: Pool) -> tuple[float, tuple[str, ...]]:
    """Rounds a second that the pool's budgets allow, and those of them that even the least load breaks: then that is all there
    is room for, since it is as near to each of them as one can get."""
    broken = tuple(name for name, cap in caps.items() if pool.rounds_at(cap) < least)
    room = min((pool.rounds_at(cap) for cap in caps.values()), default=pool.rounds_at(MOST_LOAD))
    return (NEAR * least, broken) if broken else (room, ())
