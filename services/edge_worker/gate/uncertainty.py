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
from torch.nn import functional

from services.common import rng
from services.edge_worker.signals import Signal

THETA_MAX = 2.0
SAMPLES = 20
OCTAVES = 5
_BOOLE = (7.0, 32.0, 12.0, 32.0, 7.0)
_NEGLIGIBLE = 1e-12  # beside the arg max, whose term is 1; smaller ones would become subnormal numbers, which are slow


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
    z = logits.float()
    first, second = (z.topk(2).values - z.logsumexp(dim=-1)).exp().tolist()
    return _unit(1.0 - (first - second))


def temperature_perturbation(logits: torch.Tensor, token: int | None) -> float:
    """``1 - 1/theta_max * integral of softmax(logits / theta)[d] over theta in (0, theta_max)``, without noise.

    Twenty softmaxes over a vocabulary would cost a tenth of a step of a small model and more. With ``s = 1 / theta`` the
    partition sums at ``2 s`` are those of squared terms, so four exponentials and repeated squaring give them at 21 points, in
    octaves that are each integrated by Boole's rule; what is left below the smallest temperature (1/32 of the range) is a
    trapezium up to the limit at zero.
    """
    z = logits.float()
    z = z - z.max()
    gap = float(z[int(z.argmax()) if token is None else token])
    quarters = torch.arange(4, device=z.device, dtype=torch.float32) / 4 + 1.0
    terms = torch.exp(z.unsqueeze(0) * (quarters / THETA_MAX).unsqueeze(1))  # [4, vocabulary]
    sums = [terms.sum(dim=-1)]
    for _ in range(OCTAVES):
        functional.threshold_(terms, _NEGLIGIBLE, 0.0).square_()
        sums.append(terms.sum(dim=-1))
    ties = float((z == 0).sum())
    partition = torch.stack(sums).flatten()[: 4 * OCTAVES + 1].tolist()
    s = [(1.0 + j % 4 / 4) * 2.0 ** (j // 4) / THETA_MAX for j in range(len(partition))]
    kept = [math.exp(gap * inverse) / total for inverse, total in zip(s, partition, strict=True)]
    area = (kept[-1] + (1.0 / ties if gap == 0.0 else 0.0)) / 2 / s[-1]
    for octave in range(OCTAVES):
        step = 2.0**octave / THETA_MAX / 4
        points = range(4 * octave, 4 * octave + 5)
        area += 2 / 45 * step * sum(w * kept[j] / s[j] ** 2 for w, j in zip(_BOOLE, points, strict=True))
    return _unit(1.0 - area / THETA_MAX)


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


def every_signal(logits: torch.Tensor, token: int | None) -> dict[Signal, float]:
    """All noise-free signals of one position; what they share is computed once."""
    log_p = torch.log_softmax(logits.float(), dim=-1)
    first, second = log_p.topk(2).values.exp().tolist()
    return {
        Signal.ONE_MINUS_MAX: _unit(1.0 - first),
        Signal.ENTROPY: _unit(float(-log_p.exp().dot(log_p.clamp(min=-1e30))) / math.log(len(log_p))),
        Signal.MARGIN: _unit(1.0 - (first - second)),
        Signal.TEMPERATURE_PERTURBATION: temperature_perturbation(logits, token),
    }


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value))
