"""The best fixed setting of a scenario, by exhaustive search over a grid, on the same world. Seeded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from services.simulate import score as scoring
from services.simulate.profile import Profile
from services.simulate.rounds import AUDIT, KEPT, Tables
from services.simulate.run import fixed, levels
from services.simulate.scenarios import Scenario

KS = (1, 2, 3, 4, 8)
GAMMA_STEP = 0.04
HOPELESS = 1.05  # times the damage limit: such cells are left out before the fleet is run
FLEETS = 40  # at once

Cell = tuple[int, float]
Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Fixed:
    """One setting that never changes: its goodput, and whether it meets all budgets."""

    k: int
    gamma: float
    goodput: float
    feasible: bool


def cells(scenario: Scenario, tables: Tables) -> list[Cell]:
    """The grid without those settings whose damage alone rules them out."""
    kinds = 2 if scenario.drift != 1.0 else 1
    limit = scenario.budgets.damage * HOPELESS
    out = []
    for k in KS:
        for gamma in np.arange(0.0, levels()[-1] + GAMMA_STEP / 2, GAMMA_STEP).round(3).tolist():
            rows = [tables.at(kind, k, tables.level(gamma)) for kind in range(kinds)]
            damages = [float(r[:, AUDIT].sum() / (r[:, KEPT] + 1.0).sum()) for r in rows]
            if max(damages) > limit:
                break  # a larger gamma skips more
            out.append((k, gamma))
    return out


def search(
    profile: Profile, scenario: Scenario, tables: Tables, seed: int, tell: Tell = lambda done, total: None
) -> list[Fixed]:
    """Every cell of the grid, run on ``scenario``."""
    todo = cells(scenario, tables)
    out: list[Fixed] = []
    for begin in range(0, len(todo), FLEETS):
        part = todo[begin : begin + FLEETS]
        trace = fixed(profile, scenario, part, seed, tables)
        out += [
            Fixed(k, gamma, scoring.goodput(trace, fleet), scoring.feasible(trace, fleet))
            for fleet, (k, gamma) in enumerate(part)
        ]
        tell(len(out), len(todo))
    return out


def best(found: list[Fixed]) -> Fixed | None:
    """The one with the most goodput among those that meet all budgets; ``None``: none does."""
    fit = [f for f in found if f.feasible]
    return max(fit, key=lambda f: f.goodput) if fit else None
