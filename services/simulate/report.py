"""All scenarios, scored and compared with fixed settings: what ``sluice simulate`` prints. Pure but for its length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from services.simulate import best as fixed_settings
from services.simulate import run as running
from services.simulate import score as scoring
from services.simulate.best import Cell, Fixed
from services.simulate.profile import Profile
from services.simulate.run import Trace
from services.simulate.scenarios import Scenario
from services.simulate.score import Score

Tell = Callable[[str, int, int], None]  # what is being done, how much of it, of how much


@dataclass(frozen=True)
class Result:
    """One scenario. ``found``: every fixed setting of the grid; empty where none was tried."""

    scenario: Scenario
    trace: Trace
    score: Score
    found: tuple[Fixed, ...]

    @property
    def best(self) -> Fixed | None:
        return fixed_settings.best(list(self.found))

    def to_json(self) -> dict[str, Any]:
        s, best = self.score, self.best
        return {
            "recovery_seconds": s.recovery_seconds,
            "overshoot": s.overshoot,
            "direction_changes_per_minute": s.direction_changes_per_minute,
            "damage_max_relative_to_limit": s.damage_max_relative_to_limit,
            "goodput_relative_to_best_fixed": s.goodput / best.goodput if best is not None else None,
            "goodput_tokens_per_second": s.goodput,
            "best_fixed": {"k": best.k, "gamma": best.gamma, "goodput": best.goodput} if best is not None else None,
            "feasible": self.scenario.feasible,
            "infeasible_told": list(s.infeasible_told),
        }


def simulate(profile: Profile, wanted: Sequence[Scenario], seed: int, *, compare: bool, tell: Tell) -> list[Result]:
    """``compare``: also try every fixed setting of the grid, which takes most of the time."""
    results = []
    for number, scenario in enumerate(wanted):
        tell(scenario.name, number, len(wanted))
        tables = running.tables(profile, scenario, seed)
        trace = running.controlled(profile, scenario, seed, tables)
        found: list[Fixed] = []
        if compare and scenario.compared:
            name = scenario.name

            def step(done: int, total: int, name: str = name) -> None:
                tell(f"{name}: fixed settings", done, total)

            found = fixed_settings.search(profile, scenario, tables, seed, step)
        results.append(Result(scenario, trace, scoring.score(trace), tuple(found)))
    tell("done", len(wanted), len(wanted))
    return results


def best_single(results: Sequence[Result]) -> tuple[Cell, float, list[str]] | None:
    """The one setting with the most goodput over all compared scenarios, that goodput (tokens a second, summed), and the
    scenarios in which it breaks a budget: there it has none. ``None``: nothing was compared."""
    compared = [r for r in results if r.found]
    cells = {(f.k, f.gamma) for r in compared for f in r.found if f.feasible}
    by_scenario = {r.scenario.name: {(f.k, f.gamma): f.goodput for f in r.found if f.feasible} for r in compared}
    if not cells:
        return None
    totals = {cell: sum(good.get(cell, 0.0) for good in by_scenario.values()) for cell in sorted(cells)}
    cell = max(totals, key=lambda c: totals[c])
    return cell, totals[cell], [name for name, good in by_scenario.items() if cell not in good]


def to_json(profile: Profile, seed: int, results: Sequence[Result]) -> dict[str, Any]:
    """The object that the command prints."""
    single = best_single(results)
    mine = sum(r.score.goodput for r in results if r.found)
    return {
        "scenarios": {r.scenario.name: r.to_json() for r in results},
        "sequence": {
            "best_single": (
                {"k": single[0][0], "gamma": single[0][1], "breaks_a_budget_in": single[2]} if single is not None else None
            ),
            "goodput_relative_to_best_single": mine / single[1] if single is not None else None,
        },
        "profile": {"name": profile.name, "draft": profile.draft, "target": profile.target, "tokens": profile.tokens},
        "seed": seed,
    }
