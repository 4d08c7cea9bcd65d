"""Fits the predictor of a whole answer's damage (scikit-learn), on answers that the small model wrote alone.

One case is a window of ``decide_tokens`` drafted tokens, anywhere in an answer; what is predicted is the mean rejection
probability from its first token to the end of the answer. So the same predictor decides at the start and looks again later.

``turn``: among the easier half of the answers, later predictions stay within this multiple of the first in four of five.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.linear_model import LogisticRegression

from services.calibrate import answer_level_limits as limits
from services.calibrate.answer_level_limits import Trial, Tried
from services.calibrate.record import Score
from services.calibrate.trace import Answer
from services.common.calibration.answer_level import AnswerRule, features
from services.common.rng import Floats

DECIMALS = 9
FOLDS = 5
ITERATIONS = 1000
STAYING = 0.8


@dataclass(frozen=True)
class Local:
    """One answer of the small model alone: ``u`` and ``audit`` `[tokens]`."""

    prompt_tokens: int
    u: Floats
    audit: Floats

    @staticmethod
    def of(answer: Answer, score: Score) -> Local:
        u = np.array([score(t.signals) for t in answer.tokens])
        return Local(answer.prompt_tokens, u, np.array([t.audit for t in answer.tokens]))

    def windows(self, size: int) -> Floats:
        """`[windows, FEATURES]`, in order; none where the answer is shorter than ``size``."""
        starts = range(len(self.u) - size + 1)
        return np.array([features(self.prompt_tokens, list(self.u[at : at + size])) for at in starts])

    def rest(self, size: int) -> Floats:
        """`[windows]`: the mean rejection from each window's first token on."""
        sums = np.cumsum(self.audit[::-1])[::-1]
        return np.clip((sums / np.arange(len(sums), 0, -1))[: max(0, len(sums) - size + 1)], 0.0, 1.0)


@dataclass(frozen=True)
class Fitted:
    """``multiple``: of the ordinary rule's damage, the limit; 0: nothing stays local. ``r``: Pearson's correlation of the first
    prediction and the damage of local answers left out of the fit; ``None`` where they are too few or all alike."""

    rule: AnswerRule
    multiple: float
    r: float | None
    answers: int


def fit(local: Sequence[Local], knots: tuple[Floats, Floats], decide_tokens: int, trial: Trial) -> Fitted:
    """``knots``: see ``limits.ordinary``. Raises ``ValueError`` where ``local`` teaches nothing."""
    usable = [one for one in local if len(one.u) >= decide_tokens]
    if len(usable) < 2:
        raise ValueError(
            f"{len(usable)} answers of the fit prompts have the {decide_tokens} tokens that decide whether an answer stays "
            "local: record more prompts or longer answers, or let fewer tokens decide"
        )
    rule = _fitted(usable, decide_tokens, knots)
    tried = [Tried(one.prompt_tokens, one.u, one.audit, _predictions(one, rule), decide_tokens) for one in usable]
    turn = _turn(tried)
    multiple = limits.multiple(tried, knots, replace(trial, turn=turn))
    damage = _numbers(np.minimum(1.0, multiple * knots[1]))
    rule = rule.model_copy(update={"turn": turn, "knots_damage": damage})
    return Fitted(rule, multiple, _correlation(usable, decide_tokens, knots), len(usable))


def _fitted(local: Sequence[Local], size: int, knots: tuple[Floats, Floats]) -> AnswerRule:
    """Logistic, as for tokens: a mean rejection of 0.1 counts as a tenth of a rejected case. Overlapping windows count for as
    much as the disjoint ones that fit into the answer."""
    cases = np.concatenate([one.windows(size) for one in local])
    target = np.concatenate([one.rest(size) for one in local])
    if target.max() <= 0.0 or target.min() >= 1.0:
        raise ValueError("the local answers are all accepted or all rejected: nothing to predict, record more prompts")
    weight = np.concatenate([np.full(n := len(one.u) - size + 1, len(one.u) / size / n) for one in local])
    centre, spread = cases.mean(axis=0), cases.std(axis=0)
    scale = np.where(spread > 1e-9, spread, 1.0)
    standard = (cases - centre) / scale
    model = LogisticRegression(C=1.0, max_iter=ITERATIONS)
    outcome = np.repeat([1, 0], len(target))
    model.fit(
        np.concatenate([standard, standard]),
        outcome,
        sample_weight=np.concatenate([target * weight, (1.0 - target) * weight]),
    )
    return AnswerRule(
        decide_tokens=size,
        centre=_numbers(centre),
        scale=_numbers(scale),
        weights=_numbers(model.coef_[0]),
        intercept=round(float(model.intercept_[0]), DECIMALS),
        knots_threshold=_numbers(knots[0]),
        knots_damage=_numbers(knots[1]),
        turn=1.0,
    )


def _predictions(one: Local, rule: AnswerRule) -> Floats:
    size = rule.decide_tokens
    return np.array([rule.predict(one.prompt_tokens, list(one.u[at : at + size])) for at in range(len(one.u) - size + 1)])


def _turn(tried: Sequence[Tried]) -> float:
    easy = float(np.median([one.predicted[0] for one in tried]))
    rises = [one.predicted.max() / one.predicted[0] for one in tried if 0.0 < one.predicted[0] <= easy]
    return round(float(np.quantile(rises, STAYING)), DECIMALS) if rises else 1.0


def _correlation(local: Sequence[Local], size: int, knots: tuple[Floats, Floats]) -> float | None:
    predicted, found = [], []
    for fold in range(FOLDS):
        inside = [one for n, one in enumerate(local) if n % FOLDS != fold]
        try:
            rule = _fitted(inside, size, knots)
        except ValueError:  # a fold with nothing to learn from
            continue
        for one in local[fold::FOLDS]:
            predicted.append(_predictions(one, rule)[0])
            found.append(float(one.audit.mean()))
    if len(found) < 3 or np.ptp(found) == 0.0 or np.ptp(predicted) == 0.0:
        return None
    return float(np.corrcoef(predicted, found)[0, 1])


def _numbers(values: Floats) -> tuple[float, ...]:
    return tuple(round(float(v), DECIMALS) for v in values)
