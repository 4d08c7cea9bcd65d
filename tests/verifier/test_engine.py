"""The real target: batches, roll-backs and evictions change the work, never the verdict."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from services.common.lm.engine import CausalEngine
from services.common.lm.loading import LoadedModel
from services.common.sampling import Sampling
from services.common.speculative import Judged, SpanToken, Sparse
from services.common.warp import distribution
from services.verifier.engine import TargetEngine, warm_up
from services.verifier.scheduler import Chunk
from services.verifier.slots import SlotTable
from tests.verifier.target import PROMPTS, candidates, engine, greedy, ids_of, round_


def alone(loaded: LoadedModel, base: list[int], span: list[SpanToken], **options: object) -> Judged:
    fresh, _ = engine(loaded)
    return fresh.verify([round_(b"alone", base, span, **options)])[0][0]  # type: ignore[arg-type]


def test_greedy_verdicts_are_the_targets_own_tokens(loaded: LoadedModel) -> None:
    """A right draft is accepted whole and followed by the next greedy token; a wrong one is corrected where it goes wrong."""
    target, _ = engine(loaded)
    for n, prompt in enumerate(PROMPTS):
        base = ids_of(loaded, prompt)
        truth = greedy(loaded, base, 6)
        session = bytes([n])
        right = target.verify([round_(session, base, candidates(truth[:5]))])[0][0]
        assert (right.kept, right.token, right.corrected) == (5, truth[5], False)
        wrong = [*truth[:2], (truth[2] + 1) % loaded.vocabulary, *truth[3:5]]
        judged = target.verify([round_(session, base, candidates(wrong))])[0][0]
        assert (judged.kept, judged.token, judged.corrected) == (2, truth[2], True)


def test_sessions_of_different_lengths_in_one_pass_are_judged_as_if_alone(loaded: LoadedModel) -> None:
    target, _ = engine(loaded)
    rounds = []
    for n, prompt in enumerate(PROMPTS):
        base = ids_of(loaded, prompt)
        truth = greedy(loaded, base, 4)
        span = candidates([*truth[:n], (truth[n] + 1) % loaded.vocabulary])
        span.append(SpanToken(truth[0], 0.5))  # skipped: audited if it stays
        rounds.append(round_(bytes([n]), base, span))
    target.prefill([Chunk(rounds[1].session, rounds[1].base[:7])])  # some cached, some not
    together, cost = target.verify(rounds)
    assert cost.sessions == len(rounds)
    for item, judged in zip(rounds, together, strict=True):
        assert judged == alone(loaded, item.base, list(item.span))


def test_a_whole_answer_round_by_round_equals_generate(loaded: LoadedModel) -> None:
    """Spans with mistakes, corrections, bonuses and roll-backs, each fed only with what is new."""
    target, table = engine(loaded)
    base = ids_of(loaded, PROMPTS[1])
    truth = greedy(loaded, base, 24)
    start, rng, number = len(base), np.random.default_rng(5), 0
    while len(base) - start < 20:
        at = len(base) - start
        draft = [t if rng.random() < 0.7 else int(rng.integers(loaded.vocabulary)) for t in truth[at : at + 3]]
        item = round_(b"s", base, candidates(draft), number=number)
        judged, cost = target.verify([item])
        assert number == 0 or cost.tokens <= 3 + 4  # what the last round left, and the span: never the whole prefix
        assert judged[0].token is not None
        base = base + draft[: judged[0].kept] + [judged[0].token]
        number += 1
        assert base[start:] == truth[: len(base) - start]
    assert table.valid(b"s", base) >= len(base) - 1


def test_the_number_of_tokens_fed_is_what_is_missing(loaded: LoadedModel) -> None:
    target, table = engine(loaded)
    base = ids_of(loaded, PROMPTS[1])
    assert target.prefill([Chunk(b"s", base)]).tokens == len(base)
    assert target.verify([round_(b"s", base, candidates([5, 6]))])[1].tokens == 1 + 2
    assert target.verify([round_(b"s", base, candidates([5, 6]), want_bonus=False)])[1].tokens == 1 + 1
    table.release(b"s")
    assert target.verify([round_(b"s", base, [])])[1].tokens == len(base)


def test_an_evicted_session_is_rebuilt_with_the_same_verdict(loaded: LoadedModel) -> None:
    target, _ = engine(loaded, slots=1)
    first, second = ids_of(loaded, PROMPTS[0]), ids_of(loaded, PROMPTS[1])
    sampling = Sampling(temperature=1.0)
    x = Sparse(np.array([5, 6]), np.array([1 << 15, 1 << 15]))
    before = target.verify([round_(b"a", first, [SpanToken(5, 0.5, x)], sampling=sampling, seed=9)])[0]
    target.verify([round_(b"b", second, [])])
    after, cost = target.verify([round_(b"a", first, [SpanToken(5, 0.5, x)], sampling=sampling, seed=9)])
    assert after == before
    assert cost.tokens == len(first) + 1


def test_prefill_in_chunks_is_the_same_as_at_once(loaded: LoadedModel) -> None:
    target, _ = engine(loaded)
    base = ids_of(loaded, PROMPTS[1] * 3)
    for stop in range(8, len(base) + 8, 8):
        target.prefill([Chunk(b"s", base[:stop])])
    judged, cost = target.verify([round_(b"s", base, [])])
    assert cost.tokens == 1
    assert judged[0] == alone(loaded, base, [])


def test_what_the_model_pads_behind_its_vocabulary_is_never_drawn(loaded: LoadedModel) -> None:
    base = ids_of(loaded, PROMPTS[0])
    truth = greedy(loaded, base, 1)[0]
    causal = CausalEngine(loaded.model, slots=1, capacity_tokens=64)
    narrow = TargetEngine(causal, SlotTable(1), vocabulary=truth)  # the arg max lies in what is cut off
    token = narrow.verify([round_(b"s", base, [])])[0][0].token
    assert token is not None
    assert token < truth


def test_logits_that_are_not_finite_are_an_error_not_a_token(loaded: LoadedModel) -> None:
    target, _ = engine(loaded)
    with pytest.raises(ValueError, match="not finite"):
        target._judge(round_(b"s", [1], [], sampling=Sampling()), torch.full((1, 10), torch.nan))


@pytest.mark.statistical
def test_one_position_follows_the_targets_law(loaded: LoadedModel) -> None:
    """Accept + residual, draft from ``x``: the outcome's law is ``y`` (chi-square, fixed seeds, false alarms 1e-4)."""
    from scipy.stats import chisquare

    sampling = Sampling(temperature=1.0, top_k=8)
    base = ids_of(loaded, PROMPTS[3])
    target, _ = engine(loaded)
    causal = CausalEngine(loaded.model, slots=1, capacity_tokens=64)
    logits = causal.logits(causal.hidden([0], [0], [base])[0, -1:])[:, : loaded.vocabulary]
    y = distribution(logits, sampling)[0].double().numpy()
    support = np.flatnonzero(y)
    # A draft that knows six of the eight tokens, in another order, and one that the target never says.
    x = Sparse.cut(np.append(support[:6], (support.max() + 1) % loaded.vocabulary), np.array([9, 1, 5, 2, 7, 3, 2.0]), 7)
    draws, accepted = [], 0
    for seed in range(4000):
        d = x.sample(seed, len(base), 0)
        span = [SpanToken(d, x.of(d), x)]
        judged = target._judge(round_(b"s", base, span, sampling=sampling, seed=seed, want_bonus=False), logits)
        draws.append(d if judged.kept else judged.token)
        accepted += judged.kept
    counts = np.array([draws.count(int(t)) for t in support])
    assert counts.sum() == len(draws)  # nothing outside the target's support
    assert chisquare(counts, len(draws) * y[support] / y[support].sum()).pvalue > 1e-4
    expected = sum(min(x.of(int(t)), float(y[t])) for t in support)
    assert abs(accepted / len(draws) - expected) < 4 * np.sqrt(expected * (1 - expected) / len(draws))
    for seed in range(3):  # the path through the model gives what the law was tested on
        d = x.sample(seed, len(base), 0)
        item = round_(b"s", base, [SpanToken(d, x.of(d), x)], sampling=sampling, seed=seed, want_bonus=False)
        assert target.verify([item])[0][0] == target._judge(item, logits)


def test_warm_up_takes_the_memory_and_leaves_nothing(loaded: LoadedModel) -> None:
    target, table = engine(loaded, slots=2)
    assert target.cache_bytes == 0
    warm_up(target, chunk_tokens=32)
    config = loaded.model.config
    rows = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    assert target.cache_bytes == rows * 2 * 256 * loaded.model.dtype.itemsize
    assert len(table) == 0
    assert table.valid(b"s", [0] * 32) == 0
