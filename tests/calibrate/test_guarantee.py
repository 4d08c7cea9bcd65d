"""The promise, kept: the mean damage of fresh answers at the chosen threshold, over 200 random splits of the prompts.

The seed is fixed. Were the true mean as large as alpha, a mean of these 1,600 fresh damages (standard error about 0.004) could
be above it by chance; it is about 0.02 by the tables, and the conformal check fails with a probability below 1 % at another
seed. The naive rules are above alpha by more than three standard errors.
"""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from services.calibrate import risk_control
from services.calibrate.record import Job
from services.calibrate.trace import Answer
from services.common.rng import Ids
from tests.calibrate import exact

ALPHA = 0.03
POOL, CALIBRATION, FEW, SPLITS, FRESH = 400, 200, 10, 200, 8


class Splits:
    """Recorded answers of the pool at each threshold, and fresh ones where they are asked for."""

    def __init__(self, answers: list[list[Answer]]) -> None:
        self.prompts = exact.prompts(POOL)
        self.losses = np.array([[a.damage for a in row] for row in answers])
        self.audits = np.array([[sum(t.audit for t in a.tokens if not t.flagged) for a in row] for row in answers])
        self.skipped = np.array([[float(a.skipped) for a in row] for row in answers])

    async def fresh(self, split: int, threshold: float | None, tests: Ids) -> list[float]:
        if threshold is None:
            return [0.0] * FRESH
        writer = exact.recorder(1000 + split)
        return [(await writer.write(Job(p, threshold, self.prompts[p]))).damage for p in map(int, tests)]


@pytest.fixture(scope="module")
def splits() -> Splits:
    async def write() -> list[list[Answer]]:
        writer = exact.recorder(1)
        prompts = exact.prompts(POOL)
        return [[await writer.write(Job(p, float(t), ids)) for t in exact.GRID] for p, ids in enumerate(prompts)]

    return Splits(asyncio.run(write()))


def last(passing: np.ndarray) -> float | None:
    """The largest threshold that passes."""
    found = np.flatnonzero(passing)
    return float(exact.GRID[found[-1]]) if len(found) else None


@pytest.mark.statistical
async def test_the_damage_of_fresh_answers_stays_within_alpha_and_naive_rules_break_it(splits: Splits) -> None:
    damages: dict[str, list[float]] = {"conformal": [], "few prompts": [], "skipped tokens": []}
    chosen = set()
    for number in range(SPLITS):
        order = np.random.default_rng(number).permutation(POOL)
        mine, tests = order[:CALIBRATION], order[CALIBRATION : CALIBRATION + FRESH]
        threshold = risk_control.conformal(splits.losses[mine], exact.GRID, ALPHA)
        chosen.add(threshold)
        few = last(splits.losses[mine[:FEW]].mean(axis=0) <= ALPHA)
        tokens = last(splits.audits[mine].sum(axis=0) / splits.skipped[mine].sum(axis=0) <= ALPHA)
        for rule, tau in (("conformal", threshold), ("few prompts", few), ("skipped tokens", tokens)):
            damages[rule] += await splits.fresh(number, tau, tests)
    mean = {rule: float(np.mean(values)) for rule, values in damages.items()}
    error = {rule: float(np.std(values)) / len(values) ** 0.5 for rule, values in damages.items()}
    assert mean["conformal"] <= ALPHA, mean
    assert len(chosen) > 1, "the splits must disagree, else nothing was put to the test"
    assert None not in chosen
    assert mean["few prompts"] > ALPHA + 3 * error["few prompts"], mean
    assert mean["skipped tokens"] > ALPHA + 3 * error["skipped tokens"], mean


@pytest.mark.statistical
def test_learn_then_test_fails_less_often_than_delta(splits: Splits) -> None:
    """Against the exact damage of each threshold; false-alarm rate below 1e-6 by the binomial, had it failed at delta."""
    delta, alpha, failures, passed = 0.1, 0.05, 0, 0
    kinds = np.array([ids[0] for ids in splits.prompts])
    true = [sum(exact.damage_of(k) * float((kinds == k).mean()) for k, u in exact.UNSURE.items() if u <= t) for t in exact.GRID]
    for number in range(SPLITS):
        mine = np.random.default_rng(number).choice(POOL, CALIBRATION, replace=True)
        threshold = risk_control.learn_then_test(splits.losses[mine], exact.GRID, alpha, delta=delta)
        if threshold is not None:
            passed += 1
            failures += true[list(exact.GRID).index(threshold)] > alpha
    assert passed > SPLITS / 2
    assert failures <= delta * SPLITS


async def test_recorded_damage_is_that_of_the_tables() -> None:
    """A draft that ends too early and is skipped: 1 - y/x of one token, over one answered token; asked about: none."""
    writer = exact.recorder(3)
    skipped = await writer.write(Job(0, 0.06, [1, 0]))
    assert [t.flagged for t in skipped.tokens] == [False]
    x, y = exact.TOO_EARLY[1][exact.END], exact.GOES_ON[exact.END]
    assert skipped.damage == pytest.approx(1.0 - y / x, abs=1e-3)
    asked = await writer.write(Job(0, 0.02, [1, 0]))
    assert asked.tokens[0].flagged
    assert asked.tokens[0].audit == pytest.approx(1.0 - y / x, abs=1e-3)
    assert asked.damage < 0.01
    assert asked.answered == exact.MAX_TOKENS
