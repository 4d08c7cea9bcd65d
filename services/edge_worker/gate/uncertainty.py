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
from typing import NamedTuple

import numpy as np
import torch

from services.common import rng
from services.edge_worker.signals import Signal

THETA_MAX = 2.0
SAMPLES = 20
OCTAVES = 6
_BLOCK = 64
_LEAST = -1e4  # a logit below the largest; keeps the products of forbidden tokens finite
_NEGLIGIBLE = 1e-15  # beside the arg max, whose term is 1; the squares of smaller ones would be subnormal, which is slow


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
    z = logits.float()
    return _unit(1.0 - math.exp(float(z.max() - z.logsumexp(dim=-1))))


def entropy(logits: torch.Tensor) -> float:
    """``-sum p log p / log(vocabulary)``."""
    log_p = torch.log_softmax(logits.float(), dim=-1)
    return _unit(float(-log_p.exp().dot(log_p.clamp_(min=-1e30))) / math.log(len(log_p)))


def margin(logits: torch.Tensor) -> float:
    """``1 - (p_first - p_second)``."""
    z = _below_largest(logits)
    return _margin(z, math.exp(float(z.logsumexp(dim=-1))))


def temperature_perturbation(logits: torch.Tensor, token: int | None) -> float:
    """``1 - 1/theta_max * integral of softmax(logits / theta)[d] over theta in (0, theta_max)``, without noise."""
    z = _below_largest(logits)
    return _perturbation(z, token, _partitions(z)[0])


def every_signal(logits: torch.Tensor, token: int | None) -> dict[Signal, float]:
    """All noise-free signals of one position for little more than the price of the dearest: they share its sums."""
    z = _below_largest(logits)
    partitions, energy = _partitions(z)
    whole = partitions[0][1]
    return {
        Signal.ONE_MINUS_MAX: _unit(1.0 - 1.0 / whole),
        Signal.ENTROPY: _unit((math.log(whole) - energy / whole) / math.log(len(z))),
        Signal.MARGIN: _margin(z, whole),
        Signal.TEMPERATURE_PERTURBATION: _perturbation(z, token, partitions),
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


def _below_largest(logits: torch.Tensor) -> torch.Tensor:
    z = logits.float()
    return (z - z.amax()).clamp_(min=_LEAST)


def _second(z: torch.Tensor) -> float:
    """The second largest, equal to the largest where that comes twice: block by block, a third of ``topk``'s time."""
    body = len(z) // _BLOCK * _BLOCK
    if body < 2 * _BLOCK:
        return float(z.topk(2).values[1])
    best = z[:body].view(-1, _BLOCK).amax(dim=1).topk(2)
    at = int(best.indices[0]) * _BLOCK
    return float(torch.cat([best.values[1:], z[at : at + _BLOCK], z[body:]]).topk(2).values[1])


def _margin(z: torch.Tensor, whole: float) -> float:
    return _unit(1.0 - (1.0 - math.exp(_second(z))) / whole)


def _partitions(z: torch.Tensor) -> tuple[list[list[float]], float]:
    """Sums of ``exp(s z)`` for ``s = (1, 2, 4 ...) / theta_max`` and for one and a half times these; and ``sum(z exp z)``.

    Twenty softmaxes over a vocabulary would cost a tenth of a step of a small model and more. The terms at ``2 s`` are the
    squares of those at ``s``, so one exponential gives all sums.
    """
    quarter = (z / (2 * THETA_MAX)).exp_()
    once = quarter * quarter
    rows = [once, quarter.mul_(once)]
    sums: list[list[torch.Tensor]] = []
    energy = torch.zeros(())
    for row, terms in enumerate(rows):
        sums.append([terms.sum()])
        for octave in range(1, OCTAVES + 1 - row):
            sums[row].append(terms.square_().clamp_(min=_NEGLIGIBLE).sum())
            if (row, octave) == (0, 1):
                energy = terms.dot(z)
    flat = torch.stack([energy, *sums[0], *sums[1]]).tolist()
    return [flat[1 : OCTAVES + 2], flat[OCTAVES + 2 :]], flat[0]


def _perturbation(z: torch.Tensor, token: int | None, partitions: list[list[float]]) -> float:
    """In each octave from ``theta / 2`` to ``theta`` Radau's rule, ``theta * (f(theta) + 3 f(2 theta / 3)) / 8``, exact for
    parabolas; below the last, 1/64 of the range, a trapezium up to the limit at zero."""
    gap = 0.0 if token is None else float(z[token])

    def kept(row: int, octave: int) -> float:
        return math.exp(gap * (1.0, 1.5)[row] * 2.0**octave / THETA_MAX) / partitions[row][octave]

    at_zero = 1.0 / (len(z) - int(torch.count_nonzero(z))) if gap == 0.0 else 0.0
    area = 2.0**-OCTAVES * (kept(0, OCTAVES) + at_zero) / 2
    area += sum(2.0**-octave * (kept(0, octave) + 3 * kept(1, octave)) / 8 for octave in range(OCTAVES))
    return _unit(1.0 - area)


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value))
