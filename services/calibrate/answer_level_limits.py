"""How much damage an answer may be predicted to have and stay local, at each threshold of the gate. Pure.

The limit is a multiple of the damage that the ordinary rule does at that threshold, per drafted token of the fit answers. It is
zero where nothing is skipped, so the strictest thresholds keep no answer local, and a bound that they can meet is met.

The multiple is chosen on the fit part. A larger one keeps more answers local, and a stricter threshold for the others pays for
it. Each is tried on the small model's answers, whose rejection probabilities are known, at the largest threshold of the grid
whose mean damage, and one standard error, the calibration will let pass; the one that costs the large model least is taken.
Cost: tokens judged and tokens processed, up to the last one judged, the prompt included, per answered token. A multiple of 0
keeps nothing local: it is taken where the rule does not pay. The texts are not those that the policy would write, so this
chooses well or badly, but promises nothing; what is promised is calibrated afterwards, on the policy's own answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.common.calibration.files import Policy
from services.common.rng import Floats

KNOTS = 33
DECIMALS = 9
MULTIPLES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True)
class Tried:
    """One answer of the small model alone. ``u``, ``audit`` `[tokens]`; ``predicted`` `[windows]`: its damage from each window
    of ``size`` tokens on."""

    prompt_tokens: int
    u: Floats
    audit: Floats
    predicted: Floats
    size: int

    def asks_from(self, threshold: float, limit: float, turn: float, policy: Policy) -> int:
        """The first token that the ordinary rule decides; as many as there are tokens: none. See ``gate.answer_level``."""
        if limit <= 0.0 or self._due(threshold, policy) or self.predicted[0] > limit:
            return 0
        turned = np.flatnonzero(self.predicted > turn * limit)
        later = turned[turned > 0]
        return int(later[0]) + self.size - 1 if len(later) else len(self.u)

    def _due(self, threshold: float, policy: Policy) -> bool:
        """Whether an upload falls due before the decision."""
        u = self.u[: self.size - 1]
        flagged = u > threshold
        if not flagged.any():
            return False
        waited = np.arange(len(u)) - int(np.argmax(flagged))
        refused = 1.0 - np.cumprod(np.where(flagged, 1.0 - u, 1.0))
        due = (np.cumsum(flagged) >= policy.k) | (refused >= policy.risk) | (waited >= policy.wait_tokens)
        return bool(due.any())


def ordinary(u: Floats, audit: Floats) -> tuple[Floats, Floats]:
    """Thresholds from 0 to 1, and the damage per drafted token if all tokens up to them are skipped: 0 at the first."""
    thresholds = np.unique(np.round([0.0, *np.quantile(u, np.linspace(0.0, 1.0, KNOTS)), 1.0], DECIMALS))
    damage = np.array([float(audit[u <= t].sum()) / len(audit) for t in thresholds])
    damage[0] = 0.0
    return thresholds, np.clip(damage, 0.0, 1.0)


@dataclass(frozen=True)
class Trial:
    """What a multiple is tried under. ``grid``: thresholds, ascending; ``risks``: mean damages that will pass; ``turn``: see
    ``AnswerRule``."""

    grid: Floats
    risks: Sequence[float]
    policy: Policy
    turn: float = 1.0


def multiple(answers: Sequence[Tried], knots: tuple[Floats, Floats], trial: Trial) -> float:
    """Of ``MULTIPLES``, the one of least cost, averaged over the risks; the smaller one of equals. Where no threshold passes,
    every token is judged."""
    always = sum(2 * len(one.u) + one.prompt_tokens for one in answers) / sum(len(one.u) for one in answers)
    means = []
    for m in MULTIPLES:
        outcomes = [_outcome(answers, t, m * float(np.interp(t, *knots)), trial) for t in map(float, trial.grid)]
        damage = np.maximum.accumulate([damage for damage, _ in outcomes])
        passing = [int(np.searchsorted(damage, risk, side="right")) for risk in trial.risks]
        means.append(np.mean([outcomes[n - 1][1] if n else always for n in passing]))
    return MULTIPLES[int(np.argmin(np.round(means, DECIMALS)))]


def _outcome(answers: Sequence[Tried], threshold: float, limit: float, trial: Trial) -> tuple[float, float]:
    """Mean damage of an answer and one standard error; cost per answered token."""
    damage, cost, tokens = [], 0.0, 0
    for one in answers:
        start = one.asks_from(threshold, limit, trial.turn, trial.policy)
        asked = (one.u > threshold) & (np.arange(len(one.u)) >= start)
        damage.append(float(one.audit[~asked].sum()) / len(one.u))
        tokens += len(one.u)
        if asked.any():
            cost += int(asked.sum()) + one.prompt_tokens + int(np.flatnonzero(asked)[-1]) + 1
    return float(np.mean(damage) + np.std(damage) / len(damage) ** 0.5), cost / tokens
