"""The simulated fleet: rounds as the edge cuts them, books that balance, and the controller in it."""

from __future__ import annotations

import numpy as np
import pytest

from services.common.speculative import Sparse
from services.edge_worker.span import Drafted, Limits, cut
from services.simulate import profile as profiles
from services.simulate import run as running
from services.simulate.fleet import Conditions, DeviceClass, PoolSpec
from services.simulate.profile import Profile, ProfileError
from services.simulate.rounds import Cut, Scorer, Stream, end_of, rounds
from services.simulate.scenarios import scenarios
from services.simulate.sensors import Sensors, quantile
from services.simulate.world import RTT_EDGES, World

PROFILE = profiles.load()
SPARSE = Sparse.cut(np.arange(2), np.array([0.5, 0.5]), 2)


def world(fleets: int = 1, devices: int = 8, verifiers: int = 3, seed: int = 1) -> World:
    made = running.tables(PROFILE, scenarios(PROFILE)["drift"], 1)
    fleet = World(
        classes=[DeviceClass("phone", devices, slowness=4.0)],
        pool=PoolSpec(verifiers, PROFILE.pass_line()),
        tables=made,
        step_seconds=PROFILE.step_seconds,
        hit=PROFILE.hit,
        fleets=fleets,
        conditions=Conditions([devices], verifiers),
        seed=seed,
    )
    fleet.settings[:, :, 0], fleet.settings[:, :, 1] = 2, made.level(1.0)
    return fleet


def test_rounds_end_where_the_edge_would_cut_them() -> None:
    """Against the edge's own rule, on the recorded scores."""
    stream = Stream.of(PROFILE, 1, times=1)
    limits = Cut()
    for k, gamma in ((1, 1.0), (3, 0.6), (4, 1.6), (8, 0.0)):
        flags = stream.flags(gamma)
        u, flag = stream.u.tolist(), flags.tolist()
        for start in range(0, 1500, 37):
            end, asked = end_of(u, flag, start, k, limits)
            pending: list[Drafted] = []
            wanted = None
            for i in range(start, min(len(u), start + 96)):
                pending.append(Drafted(0, SPARSE, 0.5, u[i], flag[i], flag[i]))
                wanted = cut(pending, Limits(k, limits.span_tokens, limits.wait_tokens, limits.risk), ended=False)
                if wanted is not None:
                    break
            if wanted is None:
                assert not asked or end - start == 96
            else:
                assert (end - start, asked) == (wanted, True)


def test_rows_and_scores_of_rounds_tell_the_same() -> None:
    stream = Stream.of(PROFILE, 1, times=1)
    made = rounds(stream, 3, 0.8, 1)
    counted = Scorer(stream, 0.8, running.BINS).of(made.places)
    drafted, _, kept, skipped, judged, refused, audit, whole = made.rows.sum(axis=0)
    assert counted.sum(axis=1) == pytest.approx([drafted, skipped, audit, judged, refused])
    assert kept + refused == pytest.approx(skipped + judged)
    assert whole + refused == len(made.rows)


def test_books_balance() -> None:
    """Tokens, rounds and time of a run agree with each other."""
    fleet = world()
    fleet.run(20.0)
    c = fleet.counters
    assert c.rounds.sum() > 100
    assert float(c.round_trips.sum()) == float(c.rounds.sum())
    assert 0.0 < float(c.busy[0]) / 20.0 / 3 < 1.0
    assert float(c.scores[0][0].sum()) <= float(c.drafted.sum())
    assert float(c.scores[0][2].sum()) == pytest.approx(float(c.audit.sum()), rel=1e-6)
    judged, refused = c.scores[0][3:].sum(axis=1)
    assert 0.0 < refused < judged
    low = 20.0 * 3 * fleet.pool.idle_watts
    assert low < float(c.joules[0]) < 20.0 * 3 * fleet.pool.busy_watts
    mean = float(c.round_trip.sum() / c.rounds.sum())
    assert mean > 0.05 + PROFILE.pass_line()[0], "a link and a pass at least"


def test_the_same_seed_gives_the_same_run_and_another_one_another() -> None:
    fleets = [world(seed=seed) for seed in (1, 1, 2)]
    for fleet in fleets:
        fleet.run(5.0)
    answered = [float(f.counters.answered.sum()) for f in fleets]
    assert answered[0] == answered[1] != answered[2]


def test_more_devices_wait_longer_and_dead_verifiers_lose_rounds() -> None:
    few, many = world(devices=4, verifiers=1), world(devices=40, verifiers=1)
    for fleet in (few, many):
        fleet.run(15.0)
    trips = [float(f.counters.round_trip.sum() / f.counters.rounds.sum()) for f in (few, many)]
    assert trips[1] > 1.3 * trips[0]
    dying = world(devices=12, verifiers=3)
    dying.run(5.0)
    dying.conditions.alive = 2
    dying.run(11.0)
    assert float(dying.counters.unverified.sum()) > 0.0


def test_sensors_show_rates_over_their_window_with_age() -> None:
    fleet = world()
    sensors = Sensors(running.BINS)
    assert sensors.read(0.0, ["phone"]).classes == {}
    for at in np.arange(5.0, 31.0, 5.0).tolist():
        fleet.run(at)
        sensors.scrape(fleet, fleet.conditions)
    seen = sensors.read(32.0, ["phone"])
    reading = seen.classes["phone"].readings["tokens_per_second"]
    assert reading.age_seconds == pytest.approx(2.0, abs=0.05)
    assert reading.value == pytest.approx(float(fleet.counters.answered.sum()) / 30.0, rel=0.2)
    sensors.up = False
    assert sensors.read(33.0, ["phone"]).pool == {}


def test_quantiles_are_those_of_prometheus() -> None:
    """Linear inside the bucket: half of the rounds between 0.05 and 0.06 s."""
    counts = np.zeros(len(RTT_EDGES))
    at = int(np.searchsorted(RTT_EDGES, 0.06))
    counts[at] = 10.0
    assert quantile(0.5, counts) == pytest.approx(0.055)


def test_a_profile_that_is_none_is_told_in_one_line() -> None:
    with pytest.raises(ProfileError, match="choose one of"):
        profiles.load("nothing")
    assert isinstance(PROFILE, Profile)
    a, b, c = PROFILE.pass_line()
    assert min(a, b, c) >= 0.0
    assert a + b + c > 0.0
