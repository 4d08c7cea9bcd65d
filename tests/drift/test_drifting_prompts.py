"""A prompt mix that drifts, through the session loop: a fixed threshold fails, the adaptive bound holds.

Easy prompts: both models nearly agree where the draft is sure. Hard ones: the draft is as sure as before, and wrong the more
often the less sure it is. Damage is computed from the laws, not from the audits that the loop sees. Means are compared with
five standard errors to spare, a false-alarm rate below 1e-6 each; seeds are fixed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from prometheus_client import CollectorRegistry

from services.common.drift.ledger import LOSS_CLIP
from services.common.drift.monitor import State
from services.common.rng import Floats
from services.edge_worker.answerer import SessionAnswerer
from services.edge_worker.drift import DriftWatch
from services.edge_worker.metrics import DriftMetrics
from tests.drift.conftest import Bench

ALPHA, STEP, RATE = 0.08, 0.05, 0.1
BEFORE = 300  # answers
EASY, HARD = 0, 1
UNSURE = (0.04, 0.1, 0.18, 0.26, 0.5)
REFUSED = {EASY: (0.0, 0.01, 0.02, 0.05, 0.5), HARD: (0.05, 0.2, 0.4, 0.6, 0.8)}
TOKENS = 6


def place(prefix: Sequence[int]) -> int:
    return (7 * len(prefix) + 3 * prefix[-1]) % len(UNSURE)


def row(p: float) -> Floats:
    return np.array([p, *[(1.0 - p) / 3] * 3])


def draft_law(prefix: Sequence[int]) -> Floats:
    return row(1.0 - UNSURE[place(prefix)])


def target_law(prefix: Sequence[int]) -> Floats:
    at = place(prefix)
    return row((1.0 - UNSURE[at]) * (1.0 - REFUSED[prefix[0]][at]))


async def damages(step: float | None, shifted: int) -> tuple[Floats, Floats, Floats, DriftWatch]:
    """Of each answer before and after the shift: the damage, what the watch measured of it, and its ``gamma``."""
    bench = Bench(draft_law, target_law, audit_rate=RATE)
    watch = DriftWatch(DriftMetrics(CollectorRegistry(), "phone"), alpha=ALPHA, step=step, promises=False)
    answerer = SessionAnswerer(bench.worker, watch.ended)
    rows = []
    for seed in range(BEFORE + shifted):
        kind = EASY if seed < BEFORE else HARD
        asked = watch.admit(bench.request(seed, prompt_ids=[kind, seed % 4], max_tokens=TOKENS), "none")
        answer = answerer.answer(asked)
        tokens = [token async for token in answer]
        rows.append((bench.rejections(asked.prompt_ids, tokens) / len(tokens), answer.stats.damage, asked.gamma))
        if seed == BEFORE - 1:
            assert watch.withdrawn == ""
    damage, measured, gamma = np.array(rows).T
    return damage, measured, gamma, watch


def error(values: Floats) -> float:
    return float(5.0 * values.std() / np.sqrt(len(values)))


async def test_a_fixed_threshold_fails() -> None:
    damage, _, gamma, watch = await damages(None, 400)
    before, after = damage[:BEFORE], damage[BEFORE:]
    assert set(gamma) == {1.0}
    assert before.mean() + error(before) < ALPHA / 2
    assert after.mean() - error(after) > 2 * ALPHA
    assert watch.reading.state is State.DRIFTED
    assert watch.reading.lower >= ALPHA
    assert watch.withdrawn == f"drift: measured damage {watch.reading.damage:.3g} above 0.08"


async def test_the_adaptive_bound_holds() -> None:
    """The long-run mean is at most alpha + what the bound may cost + the error of measuring; once adapted, alpha."""
    shifted = 1200
    damage, measured, gamma, _ = await damages(STEP, shifted)
    after, adapted = slice(BEFORE, None), slice(BEFORE + 500, None)
    cost = (1.0 / STEP + LOSS_CLIP) / shifted
    assert cost == 0.025
    assert measured[after].mean() <= ALPHA + cost
    assert damage[after].mean() <= ALPHA + cost + error((measured - damage)[after])
    assert damage[adapted].mean() <= 1.15 * ALPHA
    assert damage[adapted].mean() - error(damage[adapted]) > 0.6 * ALPHA, "it is not stricter than it must be"
    assert gamma[:BEFORE].mean() > 0.95
    assert 0.4 < gamma[adapted].mean() < 0.8
