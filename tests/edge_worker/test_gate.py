"""Signals and the gate's rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.edge_worker.gate import Gate, uncertainty
from services.edge_worker.signals import Signal

logits = st.lists(st.floats(-20, 20), min_size=2, max_size=40).map(lambda v: torch.tensor(v))


@pytest.mark.parametrize("signal", Signal)
@given(z=logits, pick=st.integers(0, 1000))
def test_every_signal_lies_in_the_unit_interval(signal: Signal, z: torch.Tensor, pick: int) -> None:
    assert 0.0 <= uncertainty(z, pick % len(z), signal) <= 1.0


@pytest.mark.parametrize("signal", Signal)
def test_a_sure_token_is_certain_and_a_flat_one_is_not(signal: Signal) -> None:
    sure = torch.full((1000,), -50.0)
    sure[3] = 50.0
    assert uncertainty(sure, 3, signal) < 0.01
    assert uncertainty(torch.zeros(1000), 3, signal) > 0.95


def test_one_minus_max_and_entropy_by_hand() -> None:
    z = torch.log(torch.tensor([0.5, 0.25, 0.25]))
    assert uncertainty(z, 1, Signal.ONE_MINUS_MAX) == pytest.approx(0.5)
    assert uncertainty(z, 1, Signal.ENTROPY) == pytest.approx(1.5 * math.log(2) / math.log(3))


def test_the_quadrature_is_the_mean_of_the_sampled_form() -> None:
    """U-HLM's Monte-Carlo form, with many samples, tends to the quadrature (5 sigma of 200,000 draws, fixed seed)."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=12) * 2
    d, n = 4, 200_000
    theta = rng.uniform(0, 2, size=n)
    scaled = z[None, :] / theta[:, None]
    scaled -= scaled.max(axis=1, keepdims=True)
    p = np.exp(scaled)
    p /= p.sum(axis=1, keepdims=True)
    other = rng.uniform(size=n) > p[:, d]
    u = uncertainty(torch.tensor(z), d, Signal.TEMPERATURE_PERTURBATION)
    assert abs(other.mean() - u) < 5 * other.std() / math.sqrt(n) + 1e-3


def test_a_blind_signal_does_not_see_the_draft() -> None:
    z = torch.tensor([2.0, 1.0, 0.0])
    signal = Signal.TEMPERATURE_PERTURBATION
    assert uncertainty(z, None, signal) == uncertainty(z, 0, signal) != uncertainty(z, 2, signal)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 10), st.floats(0, 10))
def test_more_gamma_never_flags_more_and_zero_flags_all(u: float, tau: float, low: float, high: float) -> None:
    gate = Gate(Signal.ENTROPY, tau)
    low, high = sorted((low, high))
    about = {"seed": 1, "position": 2, "round_": 3}
    assert gate.flag(u, low, **about) >= gate.flag(u, high, **about)
    assert gate.flag(u, 0.0, **about)


def test_the_random_gate_flags_at_its_rate() -> None:
    gate = Gate(Signal.ENTROPY, 0.5, random_rate=0.3)
    n = 20_000
    flags = sum(gate.flag(0.0, 1.0, seed=1, position=i, round_=0) for i in range(n))
    assert abs(flags / n - 0.3) < 5 * math.sqrt(0.21 / n)
