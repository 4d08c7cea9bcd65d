"""Parts of the controller against what they stand for: sampling, brute force, the edge's own rule of cutting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.policy import dual, model, pool
from services.policy.damping import Calm, Knobs, Level, Smooth
from services.policy.dual import Table
from services.policy.estimate import InForce
from services.policy.model import Edge, Gate
from tests.policy.sensed import scores


def test_utilisation_is_that_of_a_simulated_verifier() -> None:
    """Poisson arrivals, everything that waits goes into one pass. 40,000 passes: the standard error is below 0.003; the limit
    of 0.015 has a false alarm in far less than one of a million seeds. Seed fixed."""
    draws = np.random.default_rng(3)
    for load in (0.3, 1.0, 2.0):
        arrivals = np.cumsum(draws.exponential(1.0 / load, size=60_000))
        now, busy, at = 0.0, 0.0, 0
        while at < len(arrivals):
            now = max(now, float(arrivals[at])) + 1.0
            busy += 1.0
            at = int(np.searchsorted(arrivals, now - 1.0, side="right"))
        assert pool.utilisation(load) == pytest.approx(busy / now, abs=0.015)


@given(st.floats(0.0, 7.5))
def test_load_is_the_inverse_of_utilisation(load: float) -> None:
    assert pool.utilisation(pool.load_of(pool.utilisation(load))) == pytest.approx(pool.utilisation(load), abs=1e-6)


@settings(deadline=None, derandomize=True)
@given(
    st.lists(st.lists(st.tuples(st.floats(-2.0, 2.0), st.floats(0.1, 10.0)), min_size=2, max_size=6), min_size=1, max_size=3),
    st.floats(0.2, 1.2),
    st.floats(0.0, 5.0),
)
def test_dual_ascent_keeps_the_room_and_is_near_the_best(
    cells: list[list[tuple[float, float]]], share: float, price: float
) -> None:
    """Against brute force over all combinations. What the price leaves is at most the gap of one class's cell."""
    tables = {str(i): Table(np.array([u for u, _ in c]), np.array([r for _, r in c])) for i, c in enumerate(cells)}
    room = share * sum(float(t.rounds.max()) for t in tables.values())
    solution = dual.solve(tables, room, price)
    used = sum(float(tables[n].rounds[c]) for n, c in solution.cells.items())
    if dual.least(tables) > room:
        assert used == pytest.approx(dual.least(tables))
        return
    assert used <= room * (1.0 + 1e-6)
    grids = np.meshgrid(*[np.arange(len(t.rounds)) for t in tables.values()])
    names, best = list(tables), -np.inf
    for combination in zip(*(g.ravel() for g in grids), strict=True):
        if sum(float(tables[n].rounds[c]) for n, c in zip(names, combination, strict=True)) <= room:
            best = max(best, sum(float(tables[n].utility[c]) for n, c in zip(names, combination, strict=True)))
    value = sum(float(tables[n].utility[c]) for n, c in solution.cells.items())
    gap = max(float(np.ptp(t.utility)) for t in tables.values())
    assert value >= best - gap - 1e-9


def test_rounds_are_those_of_sampled_spans() -> None:
    """The Markov chain against 20,000 sampled rounds with independent tokens; each mean has a relative standard error below
    1.5 %, the limit is 6 %: a false alarm in less than one of ten thousand seeds. Seed fixed."""
    draws = np.random.default_rng(5)
    q, a, k, wait = 0.3, 0.7, 3, 12
    gate = Gate(np.array([q]), np.array([a]), np.array([0.1]), np.array([99.0]), 0.8)
    found = model.rounds(gate, np.array([1.0, 2.0, 3.0]), Edge(wait_tokens=wait))
    drafted, answered, judged, whole, audit = [], [], [], [], []
    for _ in range(20_000):
        flags: list[bool] = []
        while True:
            flags.append(bool(draws.random() < q))
            if any(flags) and (sum(flags) >= k or len(flags) - 1 - flags.index(True) >= wait):
                break
        refused = [i for i, f in enumerate(flags) if f and draws.random() >= a]
        kept = refused[0] if refused else len(flags)
        drafted.append(len(flags))
        answered.append(kept + 1)
        judged.append(sum(flags[:kept]) + bool(refused))
        whole.append(not refused)
        audit.append(0.1 * (kept - sum(flags[:kept])))
    for name, values in (
        ("drafted", drafted),
        ("answered", answered),
        ("judged", judged),
        ("all_kept", whole),
        ("audit", audit),
    ):
        assert float(getattr(found, name)[0, 2]) == pytest.approx(float(np.mean(values)), rel=0.06), name


def test_more_gamma_flags_less_and_does_more_damage() -> None:
    gammas = np.linspace(0.0, 2.0, 21)
    gate = model.gate(scores(), gammas, Edge(tau_u=0.5))
    assert gate.flagged[0] == pytest.approx(1.0)
    assert (np.diff(gate.flagged) <= 1e-12).all()
    damage = model.rounds(gate, np.array([1.0, 4.0]), Edge(tau_u=0.5)).damage
    assert (np.diff(damage, axis=0) >= -1e-9).all()
    assert damage[0] == pytest.approx(0.0, abs=1e-6)


@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(0.01, 10.0)), min_size=1, max_size=12))
def test_isotonic_rises_and_keeps_the_mean(pairs: list[tuple[float, float]]) -> None:
    values, weights = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    out = model.isotonic(values, weights)
    assert (np.diff(out) >= -1e-12).all()
    assert float(out @ weights) == pytest.approx(float(values @ weights), abs=1e-9)


def test_smoothing_follows_time_and_ignores_what_is_no_number() -> None:
    smooth = Smooth(10.0)
    assert smooth.update(1.0, 0.0) == 1.0
    assert smooth.update(float("nan"), 5.0) == 1.0
    assert smooth.update(2.0, 10.0) == pytest.approx(2.0 - np.exp(-1.0))


@pytest.mark.statistical
def test_a_number_of_devices_is_calm_under_chance_and_quick_at_a_step() -> None:
    """A Poisson number every 5 s, drawn anew each time: the estimate varies by less than two thirds as much. 2,000 values are
    about 350 independent ones, so the standard deviation is known to 4 % and the mean to 1/19 of it: the bounds lie more than 5
    standard errors off (a false alarm in less than one of a million seeds). Five times as many are believed at once."""
    draws = np.random.default_rng(4)
    for mean in (1.0, 4.0, 25.0):
        level = Level(15.0)
        found = [level.update(float(value), 5.0 * at) for at, value in enumerate(draws.poisson(mean, size=2_000))]
        assert np.std(found[20:]) < 0.65 * np.sqrt(mean)
        assert abs(np.mean(found[20:]) - mean) < 0.3 * np.sqrt(mean)
        steady = Level(15.0)
        steady.update(mean, 0.0)
        assert steady.update(5.0 * mean, 5.0) == 5.0 * mean


def test_knobs_dwell_turn_and_step() -> None:
    calm = Calm(dwell_seconds=10.0, turn_seconds=45.0, urgent_seconds=4.0, band=0.05, gain=0.01, step=1.5)
    knobs = Knobs(2, 1.0)
    assert knobs.move(2, 1.02, 0.0, calm, gain=1.0, urgent=False) == "within the band"
    assert knobs.move(2, 4.0, 0.0, calm, gain=1.0, urgent=False) == ""
    assert knobs.gamma == pytest.approx(1.5)
    assert knobs.move(2, 2.0, 9.0, calm, gain=1.0, urgent=False) == "dwell"
    assert knobs.move(2, 1.2, 20.0, calm, gain=1.0, urgent=False) == "no turning back yet"
    assert knobs.move(2, 1.2, 3.0, calm, gain=1.0, urgent=True) == "dwell"
    assert knobs.move(2, 1.2, 4.0, calm, gain=-1.0, urgent=True) == ""
    assert knobs.move(3, 1.2, 60.0, calm, gain=0.001, urgent=False) == "not worth a change"


def test_a_rise_that_had_to_be_taken_back_makes_patient() -> None:
    calm = Calm(dwell_seconds=0.0, turn_seconds=60.0, urgent_seconds=0.0, band=0.0, gain=0.0)
    knobs = Knobs(2, 1.0)
    now, rises = 0.0, []
    while now < 2000.0:
        if knobs.move(2, 1.2, now, calm, gain=1.0, urgent=False) == "" and knobs.gamma == 1.2:
            rises.append(now)
            knobs.move(2, 1.0, now + 5.0, calm, gain=-1.0, urgent=True)
        now += 10.0
    waits = np.diff(rises)
    assert waits[0] >= 60.0
    assert waits[2] >= 4 * 60.0
    assert waits.max() <= 8 * 60.0 + 20.0
    assert knobs.move(2, 1.2, 3000.0, calm, gain=1.0, urgent=False) == ""
    assert knobs.move(2, 1.0, 3600.0, calm, gain=1.0, urgent=False) == "", "it stood"
    assert knobs.patience == 1.0


def test_settings_in_force_are_weighted_with_their_time() -> None:
    past = InForce()
    past.add(0.0, 1, 0.5)
    past.add(10.0, 2, 0.5)
    past.add(10.0, 2, 0.5)
    assert past.shares(5.0, 25.0) == [((1, 0.5), 0.25), ((2, 0.5), 0.75)]
    assert past.shares(30.0, 40.0) == [((2, 0.5), 1.0)]
