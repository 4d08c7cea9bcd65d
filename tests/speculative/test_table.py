"""Speculative sampling by hand: small cases whose outcome can be read off."""

from __future__ import annotations

import numpy as np
import pytest

from services.common import rng, speculative
from services.common.rng import Purpose
from services.common.speculative import TOTAL, SpanToken, Sparse, judge, rejection, residual


def row(*p: float) -> speculative.Row:
    return np.array(p, dtype=np.float32)


def sparse(**counts: int) -> Sparse:
    ids = np.array([int(k[1:]) for k in counts])
    return Sparse(ids, np.array(list(counts.values())))


@pytest.mark.parametrize(
    ("y_d", "x_d", "beta"), [(0.5, 0.5, 0.0), (0.9, 0.5, 0.0), (0.25, 0.5, 0.5), (0.0, 0.5, 1.0), (0.1, 1.0, 0.9)]
)
def test_rejection(y_d: float, x_d: float, beta: float) -> None:
    assert rejection(y_d, x_d) == pytest.approx(beta)


def test_residual_is_what_the_draft_lacks() -> None:
    x = sparse(t0=TOTAL // 2, t1=TOTAL // 2)
    y = row(0.5, 0.2, 0.3)
    assert {residual(y, x, coin) for coin in (0.0, 0.3, 0.999999)} == {2}


def test_residual_without_mass_falls_back_to_the_target_and_not_to_its_arg_max() -> None:
    x = Sparse.certain(0)
    y = row(1.0, 0.0)
    assert residual(y, x, 0.5) == 0
    tie = Sparse(np.array([0, 1]), np.array([TOTAL // 2, TOTAL // 2]))
    assert {residual(row(0.5, 0.5), tie, coin) for coin in (0.1, 0.9)} == {0, 1}


def test_greedy_span_is_kept_up_to_the_first_difference() -> None:
    span = [SpanToken(t, 1.0, Sparse.certain(t)) for t in (2, 1, 0)]
    y = [row(0, 0, 1), row(1, 0, 0), row(1, 0, 0), row(0, 1, 0)]
    verdict = judge(span, y, seed=1, start=5, round_=0, want_bonus=True)
    assert (verdict.kept, verdict.token, verdict.corrected) == (1, 0, True)
    verdict = judge(span[:1], y[:2], seed=1, start=5, round_=0, want_bonus=True)
    assert (verdict.kept, verdict.token, verdict.corrected) == (1, 0, False)


def test_skipped_tokens_are_audited_and_never_refused() -> None:
    span = [SpanToken(0, 0.8), SpanToken(1, 0.5), SpanToken(0, 0.2)]
    y = [row(0.4, 0.6), row(0.9, 0.1), row(0.4, 0.6)]
    verdict = judge(span, y, seed=3, start=0, round_=0, want_bonus=False)
    assert (verdict.kept, verdict.token) == (3, None)
    assert verdict.audits == pytest.approx([0.5, 0.8, 0.0])


def test_audits_behind_a_correction_do_not_count() -> None:
    span = [SpanToken(0, 0.5), SpanToken(1, 1.0, Sparse.certain(1)), SpanToken(0, 0.9)]
    y = [row(1, 0), row(1, 0), row(0, 1), row(1, 0)]
    verdict = judge(span, y, seed=3, start=0, round_=0, want_bonus=True)
    assert (verdict.kept, verdict.token, verdict.corrected, verdict.audits) == (1, 0, True, [0.0])


def test_an_empty_span_is_one_token_of_the_target() -> None:
    verdict = judge([], [row(0, 1, 0)], seed=0, start=9, round_=4, want_bonus=True)
    assert (verdict.kept, verdict.token, verdict.corrected) == (0, 1, False)


def test_the_bonus_shares_its_noise_with_the_draft_ahead_of_it() -> None:
    y = np.full(50, 0.02, dtype=np.float32)
    x = Sparse.cut(np.arange(50), np.full(50, 0.02), 50)
    for seed in range(50):
        assert speculative.bonus(y, seed, 7, 2) == x.sample(seed, 7, 3)


def test_purposes_never_share_a_number() -> None:
    drawn = {rng.uniform(1, 2, 3, purpose) for purpose in Purpose}
    assert len(drawn) == len(Purpose)
