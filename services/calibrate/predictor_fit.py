"""Fits the predictor of the rejection probability (scikit-learn), and holds it against each single signal."""

from __future__ import annotations

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from services.calibrate.predictor import NAME, Predictor, base_features, damage_at, expand, sigmoid
from services.calibrate.trace import Columns
from services.common.rng import Floats

SHARES = (0.4, 0.5, 0.6, 0.7)
REGULARISATION = 1.0
ITERATIONS = 1000


def fit(columns: Columns) -> Predictor:
    """A rejection probability of 0.3 counts as 0.3 of a rejected token and 0.7 of an accepted one.

    Raises ``ValueError`` where the tokens are all accepted or all rejected.
    """
    names = tuple(sorted(columns.signals))
    beta = np.clip(columns.audit, 0.0, 1.0)
    if beta.max() <= 0.0 or beta.min() >= 1.0:
        raise ValueError("the recorded tokens are all accepted or all rejected: nothing to predict, record more prompts")
    raw = base_features(names, columns.signals, columns.x_d)
    centre, spread = raw.mean(axis=0), raw.std(axis=0)
    scale = np.where(spread > 0.0, spread, 1.0)
    features = expand((raw - centre) / scale)
    model = LogisticRegression(C=REGULARISATION, max_iter=ITERATIONS)
    rejected = np.repeat([1, 0], len(beta))
    model.fit(np.concatenate([features, features]), rejected, sample_weight=np.concatenate([beta, 1.0 - beta]))
    weights, intercept = model.coef_[0], float(model.intercept_[0])
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


def scores(columns: Columns, predictor: Predictor) -> dict[str, Floats]:
    """Each single signal and the predictor's own, by name."""
    return {**columns.signals, NAME: predictor.predict(columns.signals, columns.x_d)}


def compare(columns: Columns, predictor: Predictor) -> dict[str, dict[str, float]]:
    """Damage per drafted token by score and share skipped; tokens that the predictor was not fitted on, one hopes."""
    return {
        name: {f"{share:g}": damage_at(score, columns.audit, share) for share in SHARES}
        for name, score in scores(columns, predictor).items()
    }
