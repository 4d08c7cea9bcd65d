"""The shipped scenarios under the shipped controller, at fixed seeds: what issue-free operation promises."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import pytest
from prometheus_client import CollectorRegistry

from services.edge_worker.drift import DriftWatch
from services.edge_worker.metrics import DriftMetrics
from services.edge_worker.settings import EdgeSettings
from services.policy.controller import Bounds
from services.policy.decision import Source
from services.simulate import best, profile, report, score
from services.simulate import run as running
from services.simulate.run import Trace
from services.simulate.scenarios import Scenario, scenarios

PROFILE = profile.load()
ALL = scenarios(PROFILE)
SEED = 1


EARLIER = 90.0  # seconds: the tests need no long steady state before what happens, and a shorter one after it


def sooner(scenario: Scenario) -> Scenario:
    events = tuple(replace(event, at=event.at - EARLIER) for event in scenario.events)
    return replace(scenario, events=events, end=scenario.end - 1.5 * EARLIER)


@lru_cache
def trace(name: str, seed: int = SEED) -> Trace:
    return running.controlled(PROFILE, sooner(ALL[name]), seed)


@pytest.mark.parametrize("seed", [SEED, 2])
@pytest.mark.parametrize("name", ["load-step", "drift"])
def test_budgets_are_met_again_soon_and_calmly(name: str, seed: int) -> None:
    found = score.score(trace(name, seed))
    assert found.recovery_seconds is not None
    assert found.recovery_seconds <= 60.0
    assert found.overshoot < 0.10
    assert found.direction_changes_per_minute <= 2.0
    assert found.damage_max_relative_to_limit <= 1.10
    assert found.infeasible_told == ()


def test_a_simulated_edge_follows_no_policy_beyond_what_a_real_one_does() -> None:
    """The controller is told of the bound, and the fleet knows no larger gamma."""
    watch = DriftWatch(DriftMetrics(CollectorRegistry(), "phone"), alpha=None, step=None, promises=False)
    assert min(EdgeSettings.model_fields["gamma_max"].default, watch.gamma) == running.levels()[-1] == Bounds().gamma_max
    decided = trace("load-step").decisions[-1][1]
    assert {d.inputs["gamma_bound"][0] for d in decided.values()} == {watch.gamma}


def test_infeasible_budgets_are_told_and_the_damage_bound_is_kept() -> None:
    found = score.score(trace("infeasible"))
    assert "utilisation" in found.infeasible_told
    assert "damage" not in found.infeasible_told
    assert found.damage_max_relative_to_limit <= 1.10
    last = trace("infeasible").decisions[-1][1]
    before = [d for at, d in trace("infeasible").decisions if at < 60.0][-1]
    for name, decision in last.items():
        assert decision.predicted["rounds_per_second"] < before[name].predicted["rounds_per_second"]


def test_prometheus_away_holds_then_safe_then_resumes() -> None:
    sources = [(at, {d.source for d in decided.values()}) for at, decided in trace("prometheus-away").decisions]
    assert {Source.CONTROL} == set.union(*(s for at, s in sources if 20.0 < at < 60.0))
    assert {Source.HOLD} == set.union(*(s for at, s in sources if 85.0 < at < 115.0))
    assert {Source.SAFE} == set.union(*(s for at, s in sources if 145.0 < at < 160.0))
    assert sources[-1][1] == {Source.CONTROL}


def test_goodput_is_near_that_of_good_fixed_settings() -> None:
    """A few cells of the grid instead of all, around the best one that the whole search finds."""
    scenario = sooner(ALL["drift"])
    made = running.tables(PROFILE, scenario, SEED)
    cells = [(1, 0.88), (1, 0.92), (1, 0.96), (2, 0.88)]
    fixed = running.fixed(PROFILE, scenario, cells, SEED, made)
    good = [score.goodput(fixed, f) for f in range(len(cells)) if score.feasible(fixed, f)]
    assert good, "some of them meet all budgets"
    assert score.goodput(trace("drift"), 0) >= 0.95 * max(good)


def test_the_best_single_setting_has_no_goodput_where_it_breaks_a_budget() -> None:
    def result(name: str, cells: list[tuple[int, float, float, bool]]) -> report.Result:
        found = tuple(best.Fixed(*cell) for cell in cells)
        return report.Result(ALL[name], trace("drift"), score.score(trace("drift")), found)

    results = [
        result("load-step", [(1, 0.5, 90.0, True), (2, 1.0, 100.0, False), (4, 1.0, 80.0, True)]),
        result("drift", [(1, 0.5, 60.0, True), (2, 1.0, 100.0, True), (4, 1.0, 80.0, True)]),
    ]
    assert report.best_single(results) == ((4, 1.0), 160.0, [])
    assert report.best_single(results[:1]) == ((1, 0.5), 90.0, [])
    alone = result("oscillation", [(2, 1.0, 300.0, True)])
    assert report.best_single([*results, alone]) == ((2, 1.0), 400.0, ["load-step"])
