"""The gate: which drafted tokens are asked about.

Uncertainty signals are pure functions of the draft model's raw logits, all in [0, 1]:

* ``one_minus_max``: one minus the largest probability.
* ``entropy``: Shannon entropy over its maximum, log of the vocabulary.
* ``temperature_perturbation``: U-HLM (arXiv 2412.12687, section IV): how often the token changes when it is sampled again at
  temperatures drawn from (0, 2]; here as the noise-free 20-point midpoint quadrature of that expectation.

Rule: flag iff ``gamma = 0``, or ``u > gamma * tau_u``. More ``gamma`` never flags more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from services.common import rng
from services.edge_worker.signals import Signal

THETA_MAX = 2.0
QUADRATURE_POINTS = 20


def uncertainty(logits: torch.Tensor, token: int | None, signal: Signal) -> float:
    """``u`` from raw ``logits`` `[vocabulary]`.

    ``token`` is the draft ``d``; ``None`` means its arg max, which makes every signal blind to ``d`` (lossless mode needs
    that).
    """
    if signal is Signal.TEMPERATURE_PERTURBATION:
        thetas = (torch.arange(QUADRATURE_POINTS, dtype=torch.float32) + 0.5) * (THETA_MAX / QUADRATURE_POINTS)
        d = int(logits.argmax()) if token is None else token
        scaled = logits.float().unsqueeze(0) / thetas.to(logits.device).unsqueeze(1)  # [points, vocabulary]
        kept = torch.exp(scaled[:, d] - scaled.logsumexp(dim=-1)).mean()
        return _unit(1.0 - float(kept))
    log_p = torch.log_softmax(logits.float(), dim=-1)
    if signal is Signal.ONE_MINUS_MAX:
        return _unit(1.0 - math.exp(float(log_p.max())))
    return _unit(float(-(log_p.exp() * log_p).sum()) / math.log(len(log_p)))


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value))


@dataclass(frozen=True)
class Gate:
    """``tau_u``: the calibrated threshold. ``random_rate``: flag at random at this rate instead (a baseline), ``None``: do
    not."""

    signal: Signal
    tau_u: float
    random_rate: float | None = None

    def flag(self, u: float, gamma: float, *, seed: int, position: int, round_: int) -> bool:
        """Whether the token is asked about."""
        if self.random_rate is not None:
            return rng.uniform(seed, position, round_, rng.Purpose.GATE) < self.random_rate
        return gamma == 0.0 or u > gamma * self.tau_u
