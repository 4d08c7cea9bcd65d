"""A threshold whose expected damage per answer is bounded, whatever the distribution. Pure.

The loss of a prompt at a threshold is the damage of the answer that the policy itself wrote *at that threshold*: another
threshold writes another text. It lies in [0, 1]. Assumed: the prompts to come are exchangeable with the calibration prompts
(same source, same sampling parameters, template and lengths), and thresholds and signal were chosen without looking at them.
Not assumed: any law of tokens, independence of tokens inside an answer, or a loss that grows with the threshold.

* ``conformal`` (conformal risk control, Angelopoulos et al. 2022): the loss is made monotone by its running maximum over the
  smaller thresholds of the grid. ``E[damage] <= alpha``, the expectation taken over calibration prompts and the next one.
* ``learn_then_test`` (Angelopoulos et al. 2021): thresholds are tested from the strictest on with Hoeffding-Bentkus p-values
  until the first that fails (fixed sequence: no correction for many tests). With probability ``1 - delta`` over the
  calibration prompts, ``E[damage] <= alpha``.

Both return ``None`` where no threshold passes: always ask then, which does no damage.
"""

from __future__ import annotations

import math

import numpy as np

from services.common.rng import Floats

LEAST_PROMPTS = 200
LARGEST_LOSS = 1.0
_ROUNDING = 1e-9  # a mean of decimals may miss its exact value by this


class TooFewPromptsError(ValueError):
    """Fewer calibration prompts than a guarantee may rest on."""


def conformal(losses: Floats, grid: Floats, alpha: float, *, least: int = LEAST_PROMPTS) -> float | None:
    """The largest threshold of ``grid`` (ascending) that passes; ``losses`` `[prompts, thresholds]`.

    Passes where ``n/(n+1) * mean + 1/(n+1) <= alpha`` for the running maximum of the losses.
    """
    _check(losses, grid, alpha, least)
    n = len(losses)
    risk = np.maximum.accumulate(losses, axis=1).mean(axis=0)
    passing = np.flatnonzero(n / (n + 1) * risk + LARGEST_LOSS / (n + 1) <= alpha + _ROUNDING)
    return float(grid[passing[-1]]) if len(passing) else None


def learn_then_test(
    losses: Floats, grid: Floats, alpha: float, *, delta: float = 0.1, least: int = LEAST_PROMPTS
) -> float | None:
    """The largest threshold of ``grid`` (ascending) before the first whose p-value is above ``delta``."""
    _check(losses, grid, alpha, least)
    best: float | None = None
    for threshold, mean in zip(grid, losses.mean(axis=0), strict=True):
        if p_value(float(mean), len(losses), alpha) > delta:
            break
        best = float(threshold)
    return best


def p_value(mean: float, n: int, alpha: float) -> float:
    """Hoeffding-Bentkus p-value of "the expected loss is above ``alpha``" after a ``mean`` of ``n`` losses in [0, 1]."""
    if mean >= alpha:
        return 1.0
    rest = (1.0 - mean) * math.log((1.0 - mean) / (1.0 - alpha))
    distance = rest + (mean * math.log(mean / alpha) if mean > 0.0 else 0.0)
    bentkus = math.e * _binomial_cdf(math.ceil(n * mean - _ROUNDING), n, alpha)
    return min(1.0, math.exp(-n * distance), bentkus)


def largest_risk(n: int, alpha: float) -> float:
    """The mean loss up to which ``conformal`` passes: alpha less what ``n`` prompts cannot show."""
    return max(0.0, (alpha * (n + 1) - LARGEST_LOSS) / n)


def _binomial_cdf(k: int, n: int, p: float) -> float:
    logs = (
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p)
        for i in range(k + 1)
    )
    return min(1.0, sum(map(math.exp, logs)))


def _check(losses: Floats, grid: Floats, alpha: float, least: int) -> None:
    if losses.ndim != 2 or losses.shape[1] != len(grid):
        raise ValueError(f"losses of shape {losses.shape} do not fit {len(grid)} thresholds")
    if len(losses) < least:
        raise TooFewPromptsError(f"{len(losses)} calibration prompts; a guarantee needs at least {least}")
    if (np.diff(grid) <= 0).any():
        raise ValueError("the thresholds of the grid must rise")
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha is {alpha}: it must lie between 0 and 1")
    if losses.min() < 0.0 or losses.max() > LARGEST_LOSS:
        raise ValueError("a loss lies outside [0, 1]")
