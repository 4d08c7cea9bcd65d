"""Importance of real attention: bounds, and what becomes of a fixed threshold on a long text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.common.lm import loading
from services.common.lm.attention import LastRow
from services.common.lm.engine import CausalEngine
from services.edge_worker.gate.importance import binding, importance, received, threshold
from services.edge_worker.signals import Importance

LICENSE = Path(__file__).parents[2] / "LICENSE"
TOKENS = 700
LAYER = 8  # the middle of the shipped draft
Measure = Callable[[torch.Tensor], float]


class EveryRow(LastRow):
    """All rows of a pass instead of the last one: row ``t`` is what a step would have seen that ended at ``t``."""

    def take(self, queries: torch.Tensor, keys: torch.Tensor, scaling: float | None) -> None:
        span, group = queries.shape[2], queries.shape[1] // keys.shape[1]
        scores = queries @ keys.repeat_interleave(group, dim=1).transpose(2, 3) * (scaling or 1.0)
        hidden = torch.ones(span, span, dtype=torch.bool).triu(1)
        self.weights = scores.float().masked_fill(hidden, float("-inf")).softmax(dim=-1).mean(dim=1)


@pytest.fixture(scope="module")
def rows() -> torch.Tensor:
    """Rows of the shipped draft over ordinary prose, `[TOKENS, TOKENS]`."""
    before = torch.get_num_threads()
    draft = loading.load("smollm2-135m-draft", role="draft", threads=1, weights="int4")
    ids = draft.tokenizer(LICENSE.read_text())["input_ids"][:TOKENS]
    assert len(ids) == TOKENS
    every, last = EveryRow(LAYER), LastRow(LAYER)
    engine = CausalEngine(draft.model, slots=1, capacity_tokens=TOKENS)
    engine.hidden([0], [0], [ids], every)
    engine.hidden([0], [TOKENS - 1], [ids[-1:]], last)
    torch.set_num_threads(before)
    assert every.weights is not None
    assert last.weights is not None
    torch.testing.assert_close(every.weights[0, -1], last.weights[0], atol=1e-3, rtol=1e-2)
    return every.weights[0]


def fires(values: list[float], fixed: float | None) -> np.ndarray:
    """Whether each token is important: above ``fixed``, or above the running quantile."""
    theta = [threshold(values[:t], 0.5, 64) if fixed is None else fixed for t in range(len(values))]
    return np.array([bound is None or v > bound for v, bound in zip(values, theta, strict=True)])


@pytest.mark.parametrize(("measure", "collapsed"), [(received, 0.0), (binding, 1.0)], ids=["received", "binding"])
def test_a_fixed_threshold_collapses_and_the_running_one_does_not(
    rows: torch.Tensor, measure: Measure, collapsed: float
) -> None:
    """The fixed one is the median of the first 32 tokens, where it fires for half of them by construction."""
    values = [measure(rows[t, : t + 1]) for t in range(1, TOKENS)]
    fixed = fires(values, float(np.median(values[:32])))
    running = fires(values, None)
    assert 0.4 <= fixed[:32].mean() <= 0.6
    assert abs(fixed[-200:].mean() - collapsed) < 0.1
    for begin in range(64, TOKENS - 100, 100):
        assert 0.3 < running[begin : begin + 100].mean() < 0.7


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=50).filter(lambda w: sum(w) > 0))
def test_importance_lies_in_the_unit_interval(weights: list[float]) -> None:
    row = torch.tensor(weights) / sum(weights)
    for kind in (Importance.BINDING, Importance.RECEIVED):
        value = importance(row, kind)
        assert value is not None
        assert 0.0 <= value <= 1.0
    assert importance(row, Importance.NONE) is None


def test_importance_by_hand() -> None:
    row = torch.tensor([0.6, 0.1, 0.2, 0.1])
    assert binding(row) == pytest.approx(0.4)
    assert received(row) == pytest.approx(0.25)
    assert binding(torch.tensor([1.0])) == 0.0
    assert received(torch.tensor([1.0, 0.0, 0.0])) == 0.0
