"""Properties of the sampler and of the bytes it travels in, for any input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common import codec
from services.common.speculative import TOTAL, SpanToken, Sparse, judge

weights = st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=60)


def distributions(size: int) -> st.SearchStrategy[np.ndarray]:
    return st.lists(st.floats(0.0, 1.0), min_size=size, max_size=size).map(
        lambda w: (np.array(w) + 1e-3) / (np.array(w) + 1e-3).sum()
    )


@given(weights, st.integers(1, 40))
def test_counts_sum_and_the_largest_stay(w: list[float], entries: int) -> None:
    p = np.array(w) / sum(w)
    x = Sparse.cut(np.arange(len(p)) * 7, p, entries)
    assert x.counts.sum() == TOTAL
    assert (x.counts >= 1).all()
    assert len(x.ids) <= entries
    assert x.ids[0] == 7 * int(np.argmax(p))


@given(weights, st.integers(0, 2**64 - 1), st.integers(0, 5000), st.integers(0, 500))
def test_the_draft_lies_in_its_support(w: list[float], seed: int, position: int, round_: int) -> None:
    x = Sparse.cut(np.arange(len(w)), np.array(w) / sum(w), 32)
    assert x.of(x.sample(seed, position, round_)) > 0


@given(
    st.lists(st.tuples(distributions(6), distributions(6), st.booleans()), min_size=0, max_size=6),
    st.integers(0, 2**63),
    st.booleans(),
)
def test_a_verdict_is_well_formed_and_pure(
    rows: list[tuple[np.ndarray, np.ndarray, bool]], seed: int, want_bonus: bool
) -> None:
    span, y = [], []
    for position, (p, q, judged) in enumerate(rows):
        x = Sparse.cut(np.arange(6), p, 4)
        d = x.sample(seed, position, 0)
        span.append(SpanToken(d, x.of(d), x if judged else None))
        y.append(q.astype(np.float32))
    y.append(np.full(6, 1 / 6, dtype=np.float32))
    first = judge(span, y, seed=seed, start=0, round_=0, want_bonus=want_bonus)
    assert first == judge(span, y, seed=seed, start=0, round_=0, want_bonus=want_bonus)
    assert 0 <= first.kept <= len(span)
    assert len(first.audits) == sum(t.x is None for t in span[: first.kept])
    assert all(0 <= a <= 1 for a in first.audits)
    if first.corrected:
        assert span[first.kept].x is not None
        assert y[first.kept][first.token] > 0
    else:
        assert first.kept == len(span)
        assert (first.token is not None) == want_bonus


spans = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 200_000), st.integers(1, TOTAL)).map(lambda t: SpanToken(t[0], t[1] / TOTAL)),
        st.integers(0, 200_000).map(lambda d: SpanToken(d, 1.0, Sparse.certain(d))),
        st.tuples(st.sets(st.integers(0, 200_000), min_size=2, max_size=32), st.integers(0, 2**32)).map(
            lambda t: _token(sorted(t[0]), t[1])
        ),
    ),
    max_size=12,
)


def _token(ids: list[int], seed: int) -> SpanToken:
    p = np.random.default_rng(seed).dirichlet(np.ones(len(ids)))
    x = Sparse.cut(np.array(ids), p, 32)
    d = int(x.ids[seed % len(x.ids)])
    return SpanToken(d, x.of(d), x)


@given(spans)
def test_a_span_survives_the_wire(span: list[SpanToken]) -> None:
    back = codec.unpack_span(codec.pack_span(span))
    assert [(t.d, t.x_d) for t in back] == [(t.d, t.x_d) for t in span]
    for there, here in zip(back, span, strict=True):
        assert (there.x is None) == (here.x is None)
        if here.x is not None and there.x is not None:
            assert dict(zip(there.x.ids, there.x.counts, strict=True)) == dict(zip(here.x.ids, here.x.counts, strict=True))


@given(st.binary(max_size=200))
def test_hostile_bytes_are_refused_or_honest(data: bytes) -> None:
    try:
        span = codec.unpack_span(data)
    except codec.CodecError:
        return
    for token in span:
        assert 0 < token.x_d <= 1
        assert token.x is None or int(token.x.counts.sum()) == TOTAL


@given(st.integers(0, 200_000), st.integers(1, TOTAL))
def test_a_skipped_token_costs_six_bytes_at_most(d: int, count: int) -> None:
    assert len(codec.pack_span([SpanToken(d, count / TOTAL)])) <= 6


@pytest.mark.parametrize("ids", [[], [0], [1, 127, 128, 16384, 2_000_000]])
def test_ids_survive(ids: list[int]) -> None:
    assert codec.unpack_ids(codec.pack_ids(ids)) == ids
