"""Fits the predictor of the rejection probability (scikit-learn), and holds it against each single signal.

Which features it may use is chosen by cross-validation over the fit prompts: each signal alone, all of them, or all and their
products. A combination that does not pay for its freedom is not taken, so the predictor falls back on the best single signal.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from services.calibrate.line import pearson
from services.calibrate.trace import Columns
from services.common.calibration.predictor import NAME, Predictor, damage_at, expand, log_odds, sigmoid
from services.common.rng import Floats

SHARES = (0.4, 0.5, 0.6, 0.7)
FOLDS = 5
REGULARISATION = 0.1
ITERATIONS = 1000
Mask = npt.NDArray[np.bool_]


def fit(columns: Columns) -> Predictor:
    """A rejection probability of 0.3 counts as 0.3 of a rejected token and 0.7 of an accepted one.

    Raises ``ValueError`` where the tokens are all accepted or all rejected.
    """
    beta = np.clip(columns.audit, 0.0, 1.0)
    if beta.max() <= 0.0 or beta.min() >= 1.0:
        raise ValueError("the recorded tokens are all accepted or all rejected: nothing to predict, record more prompts")
    candidates = _masks(len(columns.signals))
    costs = [_cost(columns, beta, mask) for mask in candidates]
    return _fitted(columns.signals, beta, candidates[int(np.argmin(costs))])


def scores(columns: Columns, predictor: Predictor) -> dict[str, Floats]:
    """Each single signal and the predictor's own, by name."""
    return {**columns.signals, NAME: predictor.predict(columns.signals)}


def compare(columns: Columns, predictor: Predictor) -> dict[str, dict[str, float]]:
    """Damage per drafted token by score and share skipped; tokens that the predictor was not fitted on, one hopes."""
    return {
        name: {f"{share:g}": damage_at(score, columns.audit, share) for share in SHARES}
        for name, score in scores(columns, predictor).items()
    }


def correlations(columns: Columns, predictor: Predictor) -> dict[str, dict[str, float]]:
    """Pearson's r of each score with the rejection probability of the draft, and with its expectation before it was drawn."""
    return {
        name: {"drawn": pearson(score, columns.audit), "expected": pearson(score, columns.expected)}
        for name, score in scores(columns, predictor).items()
    }


def _masks(signals: int) -> list[Mask]:
    """Which of the expanded features are in use, simplest candidates first: ties go to them."""
    total = expand(np.zeros((1, signals))).shape[1]
    places = np.arange(total)
    return [*(places == n for n in range(signals)), places < signals, places >= 0]


def _cost(columns: Columns, beta: Floats, mask: Mask) -> float:
    """Damage on prompts left out, averaged over folds and shares; infinite where a fold has nothing to learn from."""
    fold = np.searchsorted(np.unique(columns.prompt), columns.prompt) % FOLDS
    costs = []
    for number in range(min(FOLDS, int(fold.max()) + 1)):
        out = fold == number
        if out.all() or beta[~out].max() <= 0.0 or beta[~out].min() >= 1.0:
            return float("inf")
        predictor = _fitted({name: u[~out] for name, u in columns.signals.items()}, beta[~out], mask)
        score = predictor.predict({name: u[out] for name, u in columns.signals.items()})
        costs += [damage_at(score, beta[out], share) for share in SHARES]
    return float(np.mean(costs))


def _fitted(signals: Mapping[str, Floats], beta: Floats, mask: Mask) -> Predictor:
    names = tuple(sorted(signals))
    raw = log_odds(names, signals)
    centre, spread = raw.mean(axis=0), raw.std(axis=0)
    scale = np.where(spread > 0.0, spread, 1.0)
    features = expand((raw - centre) / scale) * mask
    model = LogisticRegression(C=REGULARISATION, max_iter=ITERATIONS)
    rejected = np.repeat([1, 0], len(beta))
    model.fit(np.concatenate([features, features]), rejected, sample_weight=np.concatenate([beta, 1.0 - beta]))
    weights, intercept = model.coef_[0] * mask, float(model.intercept_[0])
    score = sigmoid(features @ weights + intercept)
    step = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(score, beta)
    return Predictor(
        signals=names,
        centre=tuple(map(float, centre)),
        scale=tuple(map(float, scale)),
        weights=tuple(map(float, weights)),
        intercept=intercept,
        knots_score=tuple(map(float, step.X_thresholds_)),
        knots_rejection=tuple(map(float, np.clip(step.y_thresholds_, 0.0, 1.0))),
    )
