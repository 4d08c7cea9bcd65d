"""Limits, monitor and adaptive bound by themselves. Statistical tests: exact binomial tests at a false-alarm rate of 1e-6."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from services.common.drift.adaptive import AdaptiveBound
from services.common.drift.ledger import LOSS_CLIP
from services.common.drift.limits import Limits
from services.common.drift.monitor import Monitor, State
from tests.drift.conftest import FALSE_ALARM

ALPHA = 0.06
RATE = 0.02


def losses(rng: np.random.Generator, damage: float, count: int) -> np.ndarray:
    """Half of an answer's damage is audited by rounds, half by the draw: mean ``damage``, with outliers of 25 times that."""
    drawn = rng.random(count) < RATE
    return damage / 2 + np.where(drawn, damage / 2 / RATE, 0.0)


def test_the_limits_hold_at_every_moment_at_once() -> None:
    delta, runs, ever = 0.1, 200, 0
    rng = np.random.default_rng(1)
    for _ in range(runs):
        limits = Limits(LOSS_CLIP, delta, (ALPHA,))
        outside = False
        for loss in losses(rng, ALPHA, 100):
            limits.add(float(loss))
            outside = outside or limits.lower > ALPHA or limits.upper < ALPHA
        ever += outside
    assert stats.binomtest(ever, runs, 2 * delta, alternative="greater").pvalue > FALSE_ALARM
    assert ever > 0, "limits that are never wrong are too wide"


def test_the_limits_close_in_on_the_mean() -> None:
    limits = Limits(LOSS_CLIP, 0.01)
    rng = np.random.default_rng(2)
    for loss in losses(rng, 0.12, 4000):
        limits.add(float(loss))
    assert 0.08 < limits.lower < limits.mean < limits.upper < 0.2
    assert limits.mean == pytest.approx(0.12, abs=0.02)


def test_before_any_answer_nothing_is_known_and_a_wrong_loss_is_refused() -> None:
    limits = Limits(1.0, 0.01)
    assert (limits.lower, limits.mean, limits.upper) == (0.0, 0.0, 1.0)
    for loss in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="outside"):
            limits.add(loss)


def fed(monitor: Monitor, values: np.ndarray) -> int | None:
    """Answers until the alarm, if it came."""
    for count, loss in enumerate(values, 1):
        monitor.add(float(loss))
        if monitor.reading().state is State.DRIFTED:
            return count
    return None


def test_alarms_are_rare_while_the_damage_stays_and_quick_when_it_leaves() -> None:
    rng = np.random.default_rng(3)
    answers, runs, window, delta = 300, 50, 100, 0.05
    calm = sum(fed(Monitor(ALPHA, window=window, delta=delta), losses(rng, ALPHA, answers)) is not None for _ in range(runs))
    most = 1.0 - (1.0 - delta) ** (2 * answers / window)  # an estimate begins every half window
    assert stats.binomtest(calm, runs, most, alternative="greater").pvalue > FALSE_ALARM
    delays = []
    for _ in range(10):
        monitor = Monitor(ALPHA)
        assert fed(monitor, losses(rng, ALPHA / 2, 600)) is None
        delay = fed(monitor, losses(rng, 3 * ALPHA, 1500))
        assert delay is not None
        delays.append(delay)
    assert np.median(delays) < 400


def test_the_state_returns_once_the_mean_does_and_says_what_it_was() -> None:
    monitor = Monitor(ALPHA, window=100)
    assert fed(monitor, np.full(500, 0.2)) is not None
    told = monitor.reading()
    assert (monitor.alarms, told.state) == (1, State.DRIFTED)
    assert told.lower >= ALPHA
    assert told.damage == pytest.approx(0.2)
    for _ in range(200):
        monitor.add(0.01)
        found = monitor.reading()
        assert (found.state is State.DRIFTED) == (found.damage > ALPHA)
    assert found.state is State.INSIDE
    assert found.damage == pytest.approx(0.01)
    assert 50 <= found.answers <= 100


def test_one_answer_alone_raises_no_alarm() -> None:
    assert fed(Monitor(0.03), np.array([LOSS_CLIP])) is None


def test_without_a_bound_it_is_only_measured() -> None:
    monitor = Monitor(None)
    assert fed(monitor, np.ones(50)) is None
    assert monitor.reading().state is State.UNBOUNDED
    assert monitor.reading().lower > 0.5


@pytest.mark.parametrize("step", [0.02, 0.2])
def test_whatever_comes_the_mean_loss_is_held(step: float) -> None:
    """No assumption on the answers: any loss where the gate lets tokens pass, none where it asks about all."""
    rng = np.random.default_rng(4)
    for nature in (lambda g: g * 0.9, lambda g: 1.0, lambda g: LOSS_CLIP * (rng.random() < 0.05), lambda g: rng.random()):
        bound, total = AdaptiveBound(ALPHA, step), 0.0
        for count in range(1, 3000):
            loss = float(nature(bound.gamma)) if bound.gamma > 0.0 else 0.0
            bound.add(loss)
            total += loss
            assert 0.0 <= bound.gamma <= 1.0
            assert total / count <= ALPHA + (1.0 / step + LOSS_CLIP) / count + 1e-9


def test_it_never_relaxes_beyond_the_calibrated_point() -> None:
    bound = AdaptiveBound(ALPHA, 0.1)
    for _ in range(100):
        bound.add(0.0)
    assert bound.gamma == 1.0
    bound.add(1.0)
    assert bound.gamma == pytest.approx(1.0 - 0.1 * 0.94)
