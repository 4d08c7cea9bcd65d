"""The upload rate by dual ascent: classes share the pool, and the pool's price makes them agree. Pure.

Each class chooses the cell of its table that is best less the price of the load it makes; the price rises while the choices
together make more load than the budgets allow and falls while there is room (projected: never below zero). The table is
finite, so the best feasible choice on the way is kept and what room is left is given away at the end. A price is carried over
to the next decision; it is not raised by a load that no choice could make (anti-windup)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from services.common.rng import Floats

STEPS = 60
FIRST_STEP = 1.0
MOST_PRICE = 50.0


@dataclass(frozen=True)
class Table:
    """The cells of one class, each array ``[cells]``: ``utility`` (of the class, weighted), ``rounds`` a second that it asks
    the pool for. Cells that a budget of the class forbids are left out by whoever builds it: at least one remains."""

    utility: Floats
    rounds: Floats


@dataclass(frozen=True)
class Solution:
    """Chosen cell by class, and the price of a whole pool's load."""

    cells: dict[str, int]
    price: float


def least(tables: Mapping[str, Table]) -> float:
    """Rounds a second if every class asks for as few as it can."""
    return sum(float(t.rounds.min()) for t in tables.values())


def solve(tables: Mapping[str, Table], room: float, price: float) -> Solution:
    """``room``: rounds a second that the budgets allow; ``price``: of the decision before."""
    if least(tables) >= room:
        return Solution({name: _cheapest(t) for name, t in tables.items()}, price)
    price = min(max(0.0, price), MOST_PRICE)
    best: dict[str, int] | None = None
    best_value = -np.inf
    for step in range(STEPS):
        cells = {name: int(np.argmax(t.utility - price * t.rounds / room)) for name, t in tables.items()}
        load = sum(float(tables[name].rounds[cell]) for name, cell in cells.items()) / room
        value = sum(float(tables[name].utility[cell]) for name, cell in cells.items())
        if load <= 1.0 and value > best_value:
            best, best_value = cells, value
        if load <= 1.0 and price == 0.0:
            break
        price = min(MOST_PRICE, max(0.0, price + FIRST_STEP / (1.0 + step / 4) * max(-1.0, min(3.0, load - 1.0))))
    if best is None:
        best = {name: _cheapest(t) for name, t in tables.items()}
    return Solution(_fill(tables, best, room), price)


def _cheapest(table: Table) -> int:
    """The best of those cells that ask the pool for the least."""
    few = table.rounds <= float(table.rounds.min()) * (1.0 + 1e-9)
    return int(np.argmax(np.where(few, table.utility, -np.inf)))


def _fill(tables: Mapping[str, Table], cells: dict[str, int], room: float) -> dict[str, int]:
    """Gives the room that is left to one class after the other."""
    out = dict(cells)
    used = sum(float(tables[name].rounds[cell]) for name, cell in out.items())
    for name in sorted(tables):
        table = tables[name]
        mine = float(table.rounds[out[name]])
        open_ = table.rounds <= room - used + mine
        better = int(np.argmax(np.where(open_, table.utility, -np.inf)))
        if open_[better] and table.utility[better] > table.utility[out[name]]:
            used += float(table.rounds[better]) - mine
            out[name] = better
    return out
