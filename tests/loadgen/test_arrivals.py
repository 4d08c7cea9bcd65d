"""The schedule and the arrivals drawn from it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from services.loadgen.arrivals import Arrival, Phase, Schedule, poisson

STEPS = (Phase(0.0, 2.0), Phase(400.0, 10.0), Phase(600.0, 0.0), Phase(700.0, 4.0))
FALSE_ALARM = 1e-4  # of each statistical test; the seeds are fixed


@pytest.fixture(scope="module")
def arrivals() -> list[Arrival]:
    return list(poisson(Schedule(STEPS, 1000.0), clients=8, seed=3))


@pytest.mark.statistical
def test_each_phase_has_as_many_requests_as_its_rate_says(arrivals: list[Arrival]) -> None:
    """Two-sided, by the Poisson law of the number in a phase."""
    schedule = Schedule(STEPS, 1000.0)
    for number, phase in enumerate(STEPS):
        count = sum(schedule.number(a.at) == number for a in arrivals)
        expected = phase.rate * (schedule.end(number) - phase.at)
        low, high = stats.poisson.interval(1.0 - FALSE_ALARM, expected) if expected else (0.0, 0.0)
        assert low <= count <= high, phase


@pytest.mark.statistical
def test_the_gaps_are_exponential_and_do_not_depend_on_each_other(arrivals: list[Arrival]) -> None:
    """Within the fast phase: Kolmogorov-Smirnov against the rate, and the correlation of neighbours."""
    times = [a.at for a in arrivals if 400.0 <= a.at < 600.0]
    gaps = np.diff(times)
    assert stats.kstest(gaps, stats.expon(scale=0.1).cdf).pvalue > FALSE_ALARM
    assert stats.pearsonr(gaps[:-1], gaps[1:]).pvalue > FALSE_ALARM


@pytest.mark.statistical
def test_all_clients_ask_alike_and_at_random(arrivals: list[Arrival]) -> None:
    """Chi-square of their counts, and of pairs in a row."""
    counts = np.bincount([a.client for a in arrivals], minlength=8)
    assert stats.chisquare(counts).pvalue > FALSE_ALARM
    pairs = np.zeros((8, 8))
    for a, b in itertools.pairwise(arrivals):
        pairs[a.client, b.client] += 1
    assert stats.chi2_contingency(pairs).pvalue > FALSE_ALARM


def test_a_wrong_rate_would_be_seen(arrivals: list[Arrival]) -> None:
    """The same tests against a rate that is 15 % off."""
    gaps = np.diff([a.at for a in arrivals if 400.0 <= a.at < 600.0])
    assert stats.kstest(gaps, stats.expon(scale=0.115).cdf).pvalue < FALSE_ALARM


def test_the_seed_decides_and_times_rise() -> None:
    schedule = Schedule(STEPS, 1000.0)
    first, again, other = (list(poisson(schedule, 3, seed)) for seed in (5, 5, 6))
    assert first == again != other
    times = [a.at for a in first]
    assert times == sorted(times)
    assert not any(600.0 <= at < 700.0 for at in times), "a rate of zero"
    assert max(times) < 1000.0


def test_expected_requests_run_through_the_steps() -> None:
    schedule = Schedule((Phase(0.0, 1.0), Phase(10.0, 5.0)), 20.0)
    assert schedule.after(0.0, 4.0) == 4.0
    assert schedule.after(9.0, 6.0) == 11.0, "one in the last second of the slow phase, five in a second of the fast one"
    assert schedule.after(19.0, 6.0) is None


@pytest.mark.parametrize(
    ("phases", "says"),
    [
        ([], "second 0"),
        ([Phase(1.0, 1.0)], "second 0"),
        ([Phase(0.0, 1.0), Phase(5.0, -1.0)], "negative"),
        ([Phase(0.0, 1.0), Phase(5.0, 1.0), Phase(5.0, 2.0)], "same second"),
        ([Phase(0.0, 1.0), Phase(60.0, 1.0)], "the load ends"),
    ],
)
def test_schedules_that_make_no_sense_are_refused(phases: list[Phase], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Schedule(phases, 60.0)
