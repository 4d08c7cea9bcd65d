"""Properties of the pure controller: bounds whatever comes in, calm, missing inputs, overrides, priority."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.policy_record import MOST_CLASSES
from services.policy.budgets import Budgets
from services.policy.controller import Bounds, Controller, Plan
from services.policy.damping import Calm
from services.policy.decision import Decision, Override, Source
from services.policy.inputs import MOST, ClassInputs, Inputs, Reading, Scores
from services.policy.model import Edge
from tests.policy.sensed import EDGES, inputs, scores

PLAN = Plan(bounds=Bounds(gamma_max=2.0), budgets=Budgets(damage=0.08), edge=Edge(tau_u=0.5))


def run(controller: Controller, seconds: float, start: float = 0.0, **given_: Any) -> list[Decision]:
    """A decision each five seconds on inputs that stay as they are."""
    out = []
    for now in np.arange(start, start + seconds, 5.0).tolist():
        controller.observe(inputs(now, **given_))
        out.append(controller.decide(now)["default"])
    return out


ODD = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -1.0, 1e-300, 1e300, math.nan, math.inf]),
    st.floats(0.0, 2.0),
)


@st.composite
def odd_inputs(draw: st.DrawFn, now: float) -> Inputs:
    """Anything that a broken Prometheus could say, beside values that make sense."""
    reading = st.builds(Reading, ODD, st.one_of(st.floats(0.0, 30.0), ODD))
    good = inputs(now)
    pool = {**good.pool, **draw(st.dictionaries(st.sampled_from(list(MOST)), reading, max_size=4))}
    own = {**good.classes["default"].readings, **draw(st.dictionaries(st.sampled_from(list(MOST)), reading, max_size=6))}
    for name in draw(st.lists(st.sampled_from(list(own)), max_size=3)):
        own.pop(name, None)
    row = st.lists(ODD, min_size=20, max_size=20).map(np.array)
    found: Scores | None = draw(st.sampled_from([scores(), scores(5.0), None]))
    if draw(st.booleans()):
        found = Scores(EDGES, draw(row), draw(row), draw(row), draw(row), draw(row), draw(ODD))
    return Inputs(now, pool, {"default": ClassInputs(own, found)})


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_nothing_moves_a_knob_outside_its_bounds(data: st.DataObject) -> None:
    bounds = Bounds(k_max=5, gamma_min=0.2, gamma_max=1.6)
    controller = Controller(replace(PLAN, bounds=bounds, hold_seconds=10.0))
    for step in range(4):
        controller.observe(data.draw(odd_inputs(step * 5.0)))
        for decision in controller.decide(step * 5.0).values():
            assert 1 <= decision.k <= 5
            assert 0.2 <= decision.gamma <= 1.6
            assert math.isfinite(decision.price)


def test_the_damage_stays_inside_its_budget_and_uses_it() -> None:
    last = run(Controller(PLAN), 60.0)[-1]
    assert last.source is Source.CONTROL
    assert last.gamma < PLAN.bounds.gamma_max
    assert 0.5 * 0.08 < last.predicted["damage"] <= 0.08


def test_a_drift_tightens_the_gate_at_once() -> None:
    controller = Controller(PLAN)
    before = run(controller, 60.0)[-1]
    controller.observe(inputs(60.0, damage=4.0 * before.predicted["damage"]))
    after = controller.decide(60.0)["default"]
    assert after.gamma < 0.7 * before.gamma
    assert "risk limit" in after.reason


def test_the_edges_bound_on_gamma_is_kept() -> None:
    assert all(d.gamma <= 0.5 for d in run(Controller(PLAN), 40.0, gamma_bound=0.5)[1:])


def test_an_overload_lowers_the_rounds_that_are_asked_for() -> None:
    calm, full = Controller(PLAN), Controller(PLAN)
    asked = run(calm, 60.0, utilisation=0.5)[-1].predicted["rounds_per_second"]
    assert run(full, 60.0, utilisation=0.95)[-1].predicted["rounds_per_second"] < 0.9 * asked
    assert full.price > calm.price


def test_steady_inputs_move_nothing_in_the_end() -> None:
    decisions = run(Controller(PLAN), 200.0)
    assert {(d.k, d.gamma) for d in decisions[-20:]} == {(decisions[-1].k, decisions[-1].gamma)}


def test_changes_keep_the_dwell_time() -> None:
    """Loads that flip at each decision, none of them over a budget: two changes are never closer than the dwell."""
    controller = Controller(replace(PLAN, calm=Calm(dwell_seconds=20.0, band=0.0, gain=0.0, turn_seconds=0.0)))
    changed = []
    for i in range(40):
        now = 5.0 * i
        controller.observe(inputs(now, draft_seconds=0.02 if i % 2 else 0.08, rejection=0.8 if i % 2 else 1.0))
        if controller.decide(now)["default"].changed:
            changed.append(now)
    assert len(changed) >= 2
    assert (
        min(np.diff(changed[1:]), default=20.0) >= 20.0
    )  # the first one leaves the safe setting, which breaks the damage bound


def test_missing_inputs_hold_then_fall_to_the_safe_setting_then_resume() -> None:
    controller = Controller(replace(PLAN, hold_seconds=30.0, bounds=Bounds(safe_k=2, safe_gamma=0.4)))
    before = run(controller, 60.0)[-1]
    held = []
    for now in np.arange(60.0, 115.0, 5.0).tolist():
        controller.observe(Inputs(now))
        held.append(controller.decide(now)["default"])
    assert [d.source for d in held[:6]] == [Source.HOLD] * 6
    assert {(d.k, d.gamma) for d in held[:6]} == {(before.k, before.gamma)}
    assert {(d.source, d.k, d.gamma) for d in held[6:]} == {(Source.SAFE, 2, 0.4)}
    assert run(controller, 60.0, start=115.0)[-1].source is Source.CONTROL


@pytest.mark.parametrize("bad", [{"age": 60.0}, {"round_trip_seconds": math.nan}, {"devices": -1.0}, {"draft_seconds": 0.0}])
def test_stale_and_absurd_inputs_count_as_missing(bad: dict[str, float]) -> None:
    controller = Controller(PLAN)
    before = run(controller, 60.0)[-1]
    after = run(controller, 20.0, start=60.0, **bad)
    assert {(d.source, d.k, d.gamma) for d in after} == {(Source.HOLD, before.k, before.gamma)}


def test_an_empty_answer_is_no_zero_load() -> None:
    """No verifier reports: the setting stays, it is not opened up."""
    controller = Controller(PLAN)
    before = run(controller, 60.0)[-1]
    controller.observe(Inputs(60.0, {}, inputs(60.0).classes))
    after = controller.decide(60.0)["default"]
    assert (after.source, after.k, after.gamma) == (Source.HOLD, before.k, before.gamma)
    assert "utilisation" in after.reason


def test_an_override_holds_until_it_expires() -> None:
    controller = Controller(PLAN)
    before = run(controller, 60.0)[-1]
    override = {"default": Override(1, 1.5, expires_at=75.0, reason="a look")}
    controller.observe(inputs(60.0))
    during = controller.decide(60.0, override)["default"]
    assert (during.source, during.k, during.gamma) == (Source.OVERRIDE, 1, 1.5)
    assert "a look" in during.reason
    controller.observe(inputs(80.0))
    assert controller.decide(80.0, override)["default"].source is Source.CONTROL
    assert run(controller, 60.0, start=85.0)[-1].gamma == pytest.approx(before.gamma, rel=0.2)


def test_an_override_too_stays_inside_the_bounds() -> None:
    controller = Controller(replace(PLAN, bounds=Bounds(k_max=4, gamma_max=1.2)))
    controller.observe(inputs(0.0))
    found = controller.decide(0.0, {"default": Override(16, 9.0, 10.0)})["default"]
    assert (found.k, found.gamma) == (4, 1.2)


def test_infeasible_budgets_follow_the_priority_and_are_told() -> None:
    """A pool that no setting inside the damage bound could spare: the damage bound holds, utilisation is told, and the load is
    the least that the bound allows."""
    plan = replace(PLAN, budgets=Budgets(damage=0.02, utilisation=0.3, joules_per_token=1e-3))
    controller = Controller(plan)
    last = run(controller, 80.0, utilisation=0.99)[-1]
    assert last.infeasible == ("utilisation", "energy")
    assert last.predicted["damage"] <= 0.02
    loose = Controller(replace(plan, budgets=Budgets(damage=0.02, utilisation=None)))
    free = run(loose, 80.0, utilisation=0.99)[-1]
    assert last.predicted["rounds_per_second"] <= 1.03 * free.predicted["rounds_per_second"]  # near the least is the least


def test_a_moment_of_infeasibility_is_not_told() -> None:
    controller = Controller(replace(PLAN, budgets=Budgets(damage=0.08, joules_per_token=1e-3)))
    told = [d.infeasible for d in run(controller, 30.0)]
    assert told[:2] == [(), ()]
    assert told[-1] == ("energy",)


def test_an_infeasible_load_winds_nothing_up() -> None:
    """After a long hopeless overload the first decision without it is as good as that of a fresh controller."""
    plan = replace(PLAN, budgets=Budgets(damage=0.08, utilisation=0.3))
    controller = Controller(plan)
    assert run(controller, 150.0, utilisation=0.99)[-1].infeasible == ("utilisation",)
    back = run(controller, 5.0, start=150.0, utilisation=0.05)[-1]
    fresh = run(Controller(plan), 20.0, utilisation=0.05)[-1]
    assert back.infeasible == ()
    assert back.price == 0.0
    assert back.predicted["tokens_per_second"] >= 0.97 * fresh.predicted["tokens_per_second"]


def test_a_successor_goes_on_from_what_is_published() -> None:
    controller = Controller(PLAN)
    controller.resume("default", 3, 0.66, 0.0)
    controller.observe(Inputs(0.0))
    found = controller.decide(0.0)["default"]
    assert (found.k, found.gamma, found.source) == (3, 0.66, Source.HOLD)


def test_classes_join_when_they_are_seen_and_share_the_pool() -> None:
    controller = Controller(PLAN)
    two = inputs(0.0)
    both = Inputs(0.0, two.pool, {"phone": two.classes["default"], "board": two.classes["default"]})
    controller.observe(both)
    found = controller.decide(0.0)
    assert {n: d.source for n, d in found.items()} == {
        "default": Source.HOLD,
        "phone": Source.CONTROL,
        "board": Source.CONTROL,
    }


def test_made_up_classes_neither_fill_the_record_nor_stay() -> None:
    controller = Controller(PLAN)
    for number in range(MOST_CLASSES + 20):
        controller.observe(Inputs(0.0, {}, {f"made-up-{number}": ClassInputs()}))
    assert len(controller.decide(0.0)) == MOST_CLASSES
    controller.observe(Inputs(1000.0))
    assert set(controller.decide(1000.0)) == {"default"}
