"""Signals and the gate's rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.edge_worker.gate import Draws, Gate, uncertainty
from services.edge_worker.gate.importance import threshold
from services.edge_worker.gate.uncertainty import every_signal, temperature_perturbation, temperature_perturbation_sampled
from services.edge_worker.signals import SAFE_TAU, Signal

NOISE_FREE = [s for s in Signal if s is not Signal.TEMPERATURE_PERTURBATION_SAMPLED]
DRAWS = Draws(7, 3, 1)
unit = st.floats(0, 1)
gammas = st.floats(0, 10)
histories = st.lists(unit, max_size=80)
logits = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=40).map(torch.tensor)
ABOUT = {"seed": 1, "position": 2, "round_": 3}


@pytest.mark.parametrize("signal", Signal)
@given(z=logits, pick=st.integers(0, 1000))
def test_every_signal_lies_in_the_unit_interval(signal: Signal, z: torch.Tensor, pick: int) -> None:
    assert 0.0 <= uncertainty(z, pick % len(z), signal, DRAWS) <= 1.0
    assert 0.0 <= uncertainty(z, None, signal, DRAWS) <= 1.0


@pytest.mark.parametrize("signal", Signal)
@pytest.mark.parametrize("far", [50.0, 1e6, math.inf])
def test_a_sure_token_is_certain_and_a_flat_one_is_not(signal: Signal, far: float) -> None:
    sure = torch.full((1000,), -far)
    sure[3] = 50.0
    assert uncertainty(sure, 3, signal, DRAWS) < 0.01
    assert uncertainty(torch.zeros(1000), 3, signal, DRAWS) > 0.95


def test_three_signals_by_hand() -> None:
    z = torch.log(torch.tensor([0.5, 0.3, 0.2]))
    assert uncertainty(z, 1, Signal.ONE_MINUS_MAX) == pytest.approx(0.5)
    assert uncertainty(z, 1, Signal.MARGIN) == pytest.approx(0.8)
    nats = -(0.5 * math.log(0.5) + 0.3 * math.log(0.3) + 0.2 * math.log(0.2))
    assert uncertainty(z, 1, Signal.ENTROPY) == pytest.approx(nats / math.log(3))


@given(z=logits, pick=st.integers(0, 1000))
def test_the_quadrature_is_the_integral(z: torch.Tensor, pick: int) -> None:
    """Against 1,000 midpoints in float64. A near tie decides below the smallest temperature: half of 1/64 is open there."""
    d = pick % len(z)
    theta = (np.arange(1000) + 0.5) / 500
    scaled = (z.double().numpy() - float(z.max()))[None, :] / theta[:, None]
    kept = np.exp(scaled[:, d]) / np.exp(scaled).sum(axis=1)
    assert temperature_perturbation(z, d) == pytest.approx(1 - kept.mean(), abs=0.01)


@pytest.mark.parametrize("d", [None, 48, 39])
def test_the_quadrature_is_the_mean_of_the_sampled_form(d: int | None) -> None:
    """4,000 positions of 20 draws; false-alarm rate 6e-7 (5 sigma) beside the quadrature's own error, fixed seed."""
    z = torch.from_numpy(np.random.default_rng(0).normal(size=60) * 2)
    assert d in (None, *z.topk(4).indices.tolist())
    sampled = np.array([temperature_perturbation_sampled(z, d, Draws(1, p, 0)) for p in range(4000)])
    assert sampled.std() > 0.02
    assert abs(sampled.mean() - temperature_perturbation(z, d)) < 5 * sampled.std() / math.sqrt(len(sampled)) + 1e-3


def test_the_margin_of_a_large_vocabulary() -> None:
    """The two largest in one block, in two, in the tail, in block and tail; and twice the same."""
    for first, second in ((3, 5), (3, 700), (999, 998), (12, 999), (999, 12)):
        for lead in (0.0, 1.0):
            z = torch.linspace(-9, -8, 1000)
            z[first], z[second] = 4.0 + lead, 4.0
            p = z.double().softmax(dim=-1)
            assert uncertainty(z, None, Signal.MARGIN) == pytest.approx(1 - float(p[first] - p[second]), abs=1e-5)


@pytest.mark.parametrize("spread", [0.5, 2.0, 4.0])
def test_what_the_sums_leave_out_is_nothing(spread: float) -> None:
    """Against the same quadrature in float64 over a whole vocabulary, from flat to peaked, to 2e-5."""
    z = np.random.default_rng(3).normal(size=152_000).astype(np.float32) * spread
    exact = z.astype(np.float64) - float(z.max())

    def kept(theta: float, d: int) -> float:
        return float(np.exp(exact[d] / theta) / np.exp(exact / theta).sum())

    for d in np.argsort(-z)[[0, 1, 50]].tolist():
        octaves = sum(2.0**-n * (kept(2 * 2.0**-n, d) + 3 * kept(4 / 3 * 2.0**-n, d)) / 8 for n in range(6))
        below = (kept(1 / 32, d) + (exact[d] == 0.0)) / 128
        assert temperature_perturbation(torch.from_numpy(z), d) == pytest.approx(1 - octaves - below, abs=2e-5)


def test_the_sampled_form_repeats_itself_and_needs_its_key() -> None:
    z, signal = torch.linspace(-2, 2, 30), Signal.TEMPERATURE_PERTURBATION_SAMPLED
    assert len({uncertainty(z, 29, signal, DRAWS) for _ in range(3)}) == 1
    assert len({uncertainty(z, 29, signal, Draws(7, p, 1)) for p in range(30)}) > 1
    with pytest.raises(ValueError, match="random numbers"):
        uncertainty(z, 29, signal)


@given(z=logits, pick=st.integers(0, 1000))
def test_all_at_once_is_each_by_itself(z: torch.Tensor, pick: int) -> None:
    for d in (None, pick % len(z)):
        together = every_signal(z, d)
        assert set(together) == set(NOISE_FREE)
        for signal, u in together.items():
            assert u == pytest.approx(uncertainty(z, d, signal), abs=1e-4)


@pytest.mark.parametrize("signal", Signal)
def test_a_blind_signal_does_not_see_the_draft(signal: Signal) -> None:
    z = torch.tensor([2.0, 1.0, -1.0])
    sees = signal in (Signal.TEMPERATURE_PERTURBATION, Signal.TEMPERATURE_PERTURBATION_SAMPLED)
    assert uncertainty(z, None, signal, DRAWS) == uncertainty(z, 0, signal, DRAWS)
    assert (uncertainty(z, 0, signal, DRAWS) != uncertainty(z, 2, signal, DRAWS)) == sees


def test_every_signal_has_a_threshold_without_a_calibration() -> None:
    assert set(SAFE_TAU) == set(Signal)
    assert all(0 < tau < 1 for tau in SAFE_TAU.values())


@given(unit, unit, st.none() | unit, histories, unit, st.integers(1, 70), gammas, gammas)
def test_more_gamma_never_flags_more_and_zero_flags_all(
    u: float, tau: float, i: float | None, history: list[float], quantile: float, window: int, low: float, high: float
) -> None:
    gate = Gate(Signal.ENTROPY, tau, quantile=quantile, window=window)

    def flagged(gamma: float) -> bool:
        return gate.flag(u, gamma, **ABOUT) and gate.important(i, gamma, history)

    low, high = sorted((low, high))
    assert flagged(low) >= flagged(high)
    assert flagged(0.0)


@given(histories, unit, st.integers(1, 70))
def test_the_threshold_is_a_quantile_of_the_window(history: list[float], quantile: float, window: int) -> None:
    theta = threshold(history, quantile, window)
    recent = history[-window:]
    if not recent:
        assert theta is None
        return
    assert theta in recent
    assert sum(v < theta for v in recent) <= quantile * len(recent)
    assert sum(v <= theta for v in recent) >= quantile * (len(recent) - 1)


def test_the_random_gate_flags_at_its_rate() -> None:
    gate = Gate(Signal.ENTROPY, 0.5, random_rate=0.3)
    n = 20_000
    flags = sum(gate.flag(0.0, 1.0, seed=1, position=i, round_=0) for i in range(n))
    assert abs(flags / n - 0.3) < 5 * math.sqrt(0.21 / n)
