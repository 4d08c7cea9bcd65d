"""Uncertainty: pure functions of the draft model's raw logits `[vocabulary]`, all in [0, 1].

* ``one_minus_max``: one minus the largest probability.
* ``entropy``: Shannon entropy over its maximum, log of the vocabulary.
* ``margin``: one minus the lead of the largest probability over the second.
* ``temperature_perturbation``: U-HLM (arXiv 2412.12687, section IV): how often the token changes when it is sampled again at
  temperatures drawn from (0, 2). The default form is a noise-free quadrature of that expectation;
  ``temperature_perturbation_sampled`` is the paper's own, 20 draws, for comparison.

The first three do not look at the draft ``d``; perturbation does, unless it is told ``None``, which stands for the arg max.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from services.common import rng
from services.edge_worker.signals import Signal

THETA_MAX = 2.0
SAMPLES = 20
OCTAVES = 6
_FLOOR = -60.0  # a logit below the largest; lower ones change no sum, and their powers would be subnormal, which is slow
_NEAR = -8.0  # from s = 3 on only terms above exp(3 * -8) = 4e-11 are summed: 150,000 others are 6e-6 of the sum at most
_LOW = (0.5, 0.75, 1.0, 1.5, 2.0)  # s of the sums over the whole vocabulary
_HIGH = (3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)  # and over what lies near the largest

Row = npt.NDArray[np.float32]  # `[vocabulary]`


class Draws(NamedTuple):
    """The key of the sampled form's random numbers."""

    seed: int
    position: int
    round: int


def uncertainty(logits: torch.Tensor, token: int | None, signal: Signal, draws: Draws | None = None) -> float:
    """``u`` by name. ``token``: the draft, ``None`` for a blind signal. Only the sampled form needs ``draws``."""
    if signal is Signal.ONE_MINUS_MAX:
        return one_minus_max(logits)
    if signal is Signal.ENTROPY:
        return entropy(logits)
    if signal is Signal.MARGIN:
        return margin(logits)
    if signal is Signal.TEMPERATURE_PERTURBATION:
        return temperature_perturbation(logits, token)
    if draws is None:
        raise ValueError("the sampled form needs the key of its random numbers")
    return temperature_perturbation_sampled(logits, token, draws)


def one_minus_max(logits: torch.Tensor) -> float:
    """``1 - max p``."""
    z = _below_largest(logits)
    return _unit(1.0 - 1.0 / float(np.exp(z, out=z).sum()))


def entropy(logits: torch.Tensor) -> float:
    """``-sum p log p / log(vocabulary)``."""
    z = _below_largest(logits)
    terms = np.exp(z)
    return _entropy(len(z), float(terms.sum()), float(terms.dot(z)))


def margin(logits: torch.Tensor) -> float:
    """``1 - (p_first - p_second)``."""
    z = _below_largest(logits)
    whole = float(np.exp(z).sum())
    return _margin(_second(z), whole)


def temperature_perturbation(logits: torch.Tensor, token: int | None) -> float:
    """``1 - 1/theta_max * integral of softmax(logits / theta)[d] over theta in (0, theta_max)``, without noise."""
    z = _below_largest(logits)
    return _perturbation(0.0 if token is None else float(z[token]), _sums(z))


def every_signal(logits: torch.Tensor, token: int | None) -> dict[Signal, float]:
    """All noise-free signals of one position for little more than the price of the dearest: they share its sums."""
    z = _below_largest(logits)
    sums, gap = _sums(z), 0.0 if token is None else float(z[token])
    whole = sums.at[1.0]
    second = float(np.partition(sums.near, -2)[-2]) if len(sums.near) > 1 else _second(z)
    return {
        Signal.ONE_MINUS_MAX: _unit(1.0 - 1.0 / whole),
        Signal.ENTROPY: _entropy(len(z), whole, sums.energy),
        Signal.MARGIN: _margin(second, whole),
        Signal.TEMPERATURE_PERTURBATION: _perturbation(gap, sums),
    }


def temperature_perturbation_sampled(logits: torch.Tensor, token: int | None, draws: Draws) -> float:
    """``1/K * sum 1[d_k != d]`` with ``theta_k`` uniform in (0, theta_max) and ``d_k`` of ``softmax(logits / theta_k)``.

    ``d_k`` is drawn by inversion with ``d`` listed first, so one uniform number tells whether it is ``d``.
    """
    z = logits.float()
    d = int(z.argmax()) if token is None else token
    thetas = THETA_MAX * rng.uniforms(*draws, rng.Purpose.TEMPERATURE, SAMPLES)
    coins = rng.uniforms(*draws, rng.Purpose.PERTURBATION, SAMPLES)
    z = z - z.max()
    gap = float(z[d])
    # One at a time: a row stays in the processor's cache, all together do not.
    kept = np.array([math.exp(gap / theta) / float((z / theta).exp_().sum()) for theta in thetas.tolist()])
    return float(np.mean(coins >= kept))


class _Sums(NamedTuple):
    """``at``: sums of ``exp(s z)`` by ``s``; ``energy``: ``sum(z exp z)``; ``near``: the logits near the largest."""

    at: Mapping[float, float]
    energy: float
    near: Row


def _below_largest(logits: torch.Tensor) -> Row:
    """A new array. numpy's calls cost less than torch's where a vocabulary's worth of work takes microseconds."""
    raw: Row = logits.float().cpu().numpy()
    z: Row = raw - raw.max()
    np.maximum(z, np.float32(_FLOOR), out=z)
    return z


def _sums(z: Row) -> _Sums:
    """For ``s = 1 / theta`` of the quadrature, 13 of them.

    As many softmaxes over a vocabulary would cost a tenth of a step of a small model. One exponential gives the sums up to
    ``s = 2``, as products of its powers, which are summed without being stored; beyond it the tail is nothing.
    """
    quarter = z * np.float32(0.25)
    np.exp(quarter, out=quarter)
    half = quarter * quarter
    one = half * half
    low = (quarter.dot(quarter), quarter.dot(half), half.dot(half), half.dot(one), one.dot(one))
    near = z[np.flatnonzero(z > _NEAR)]
    high = np.exp(np.multiply.outer(np.array(_HIGH, dtype=np.float32), near)).sum(axis=1)
    return _Sums(dict(zip(_LOW + _HIGH, (*map(float, low), *high.tolist()), strict=True)), float(one.dot(z)), near)


def _perturbation(gap: float, sums: _Sums) -> float:
    """``gap``: the logit of ``d`` below the largest.

    In each octave from ``theta / 2`` to ``theta`` Radau's rule, ``theta * (f(theta) + 3 f(2 theta / 3)) / 8``, exact for
    parabolas; below the last, 1/64 of the range, a trapezium up to the limit at zero.
    """

    def kept(s: float) -> float:
        return math.exp(gap * s) / sums.at[s]

    at_zero = 1.0 / int(np.count_nonzero(sums.near == 0.0)) if gap == 0.0 else 0.0
    area = 2.0**-OCTAVES * (kept(2.0**OCTAVES / THETA_MAX) + at_zero) / 2
    for octave in range(OCTAVES):
        s = 2.0**octave / THETA_MAX
        area += 2.0**-octave * (kept(s) + 3 * kept(1.5 * s)) / 8
    return _unit(1.0 - area)


def _entropy(vocabulary: int, whole: float, energy: float) -> float:
    return _unit((math.log(whole) - energy / whole) / math.log(vocabulary))


def _second(z: Row) -> float:
    """The second largest, equal to the largest where that comes twice. Spoils ``z``."""
    z[z.argmax()] = _FLOOR
    return float(z.max())


def _margin(second: float, whole: float) -> float:
    return _unit(1.0 - (1.0 - math.exp(second)) / whole)


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value))
