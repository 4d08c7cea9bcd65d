"""What excuses a different token in the run with real models: only a draw that was about to go the other way."""

from __future__ import annotations

import random

import numpy as np

from services.common.speculative import Row, SpanToken, Sparse, judge
from services.common.synthetic import DRAFT_NOISE, VOCABULARY, SyntheticLaw
from tests.chaos.real_model import nearest_draw

TARGET, DRAFT = SyntheticLaw(), SyntheticLaw(noise=DRAFT_NOISE)
NOISE = 1e-3  # relative, of a probability


def test_a_verdict_changes_under_noise_only_where_a_draw_was_near() -> None:
    draw, noise = random.Random(3), np.random.default_rng(3)
    changed = near = 0
    for seed in range(1500):
        base = [draw.randrange(VOCABULARY) for _ in range(5)]
        span: list[SpanToken] = []
        for _ in range(4):
            prefix = [*base, *(t.d for t in span)]
            x = Sparse.cut(np.arange(VOCABULARY), DRAFT(prefix), 32)
            d = x.sample(seed, len(prefix), 0)
            span.append(SpanToken(d, x.of(d), x))
        rows = [TARGET([*base, *(t.d for t in span[:n])]) for n in range(5)]
        blurred = [p * (1 + NOISE * noise.uniform(-1, 1, VOCABULARY)) for p in rows]
        exact: list[Row] = [p.astype(np.float32) for p in rows]
        inexact: list[Row] = [(p / p.sum()).astype(np.float32) for p in blurred]
        before, after = (judge(span, y, seed=seed, start=5, round_=0, want_bonus=True) for y in (exact, inexact))
        distance = nearest_draw(span, exact, seed, 5, 0, want_bonus=True)
        near += distance < 10 * NOISE
        if (before.kept, before.token) != (after.kept, after.token):
            changed += 1
            assert distance < 10 * NOISE
    assert changed > 0
    assert near < 300, "so lenient a measure would excuse anything"
