"""The law of what comes out, against the law it must have: chi-square tests with fixed seeds.

False-alarm rate: each test below fails a correct implementation with probability 1e-6 (the threshold of its p-value), and
the seeds are
fixed, so a pass stays a pass. Power: the planted mutants at the end must each be caught by the very same test.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from scipy import stats

from services.common import rng, speculative
from services.common.speculative import Judged, Row, SpanToken, Sparse, judge

ALPHA = 1e-6
SAMPLES = 20_000
VOCABULARY = 4
X = np.array([[0.55, 0.25, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4]])
Y = np.array([[0.25, 0.40, 0.05, 0.30], [0.4, 0.3, 0.2, 0.1]])
# the law at a position depends on the token before it: rows above for the first, rolled by the last token afterwards
Judge = Callable[..., Judged]


def x_after(prefix: tuple[int, ...]) -> Sparse:
    p = np.roll(X[len(prefix) % 2], prefix[-1] if prefix else 0)
    return Sparse.cut(np.arange(VOCABULARY), p, VOCABULARY)


def y_after(prefix: tuple[int, ...]) -> Row:
    y: Row = np.roll(Y[len(prefix) % 2], prefix[-1] if prefix else 0).astype(np.float32)
    return y


def write(seed: int, length: int, span: int, skip: Callable[[int, int], bool], referee: Judge) -> tuple[tuple[int, ...], float]:
    """An answer of ``length`` tokens in rounds of ``span`` drafts; ``skip(position, d)`` is the gate. Returns it and its
    audit sum."""
    text: tuple[int, ...] = ()
    audit = 0.0
    round_ = 0
    while len(text) < length:
        drafts: list[SpanToken] = []
        ahead = text
        for _ in range(min(span, length - len(text))):
            x = x_after(ahead)
            d = x.sample(seed, len(ahead), round_)
            drafts.append(SpanToken(d, x.of(d), None if skip(len(ahead), d) else x))
            ahead = (*ahead, d)
        want_bonus = len(ahead) < length
        rows = [y_after((*text, *(t.d for t in drafts[:j]))) for j in range(len(drafts) + want_bonus)]
        verdict = referee(drafts, rows, seed=seed, start=len(text), round_=round_, want_bonus=want_bonus)
        audit += sum(verdict.audits)
        text = (*text, *(t.d for t in drafts[: verdict.kept]))
        if verdict.token is not None:
            text = (*text, verdict.token)
        round_ += 1
    return text, audit


def target_law(length: int) -> dict[tuple[int, ...], float]:
    law = {}
    for text in product(range(VOCABULARY), repeat=length):
        law[text] = float(np.prod([y_after(text[:i])[text[i]] for i in range(length)], dtype=np.float64))
    return law


def p_value(texts: list[tuple[int, ...]], law: dict[tuple[int, ...], float]) -> float:
    seen = dict.fromkeys(law, 0)
    for text in texts:
        seen[text] += 1
    observed = np.array(list(seen.values()), dtype=float)
    expected = np.array(list(law.values())) * len(texts)
    rare = expected < 8
    if rare.any():
        observed = np.append(observed[~rare], observed[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    expected *= observed.sum() / expected.sum()
    return float(stats.chisquare(observed, expected).pvalue)


def lossless_p(referee: Judge, span: int = 2, length: int = 3) -> float:
    texts = [write(seed, length, span, lambda *_: False, referee)[0] for seed in range(SAMPLES)]
    return p_value(texts, target_law(length))


@pytest.mark.parametrize("span", [1, 2, 3])
def test_everything_judged_gives_the_target_s_law(span: int) -> None:
    assert lossless_p(judge, span) > ALPHA


GATES: dict[str, Callable[[int, int], bool]] = {
    "blind to d": lambda position, d: position % 2 == 0,
    "sees d": lambda position, d: d == 0,
    "skips all": lambda position, d: True,
}


@pytest.mark.parametrize("gate", GATES)
def test_total_variation_is_the_expected_audit(gate: str) -> None:
    """One position: TV between output and target equals the mean audit, for any gate, also where verified tokens alone are
    biased."""
    skip = GATES[gate]
    drawn = np.zeros(VOCABULARY)
    audit = 0.0
    for seed in range(2 * SAMPLES):
        text, a = write(seed, 1, 1, skip, judge)
        drawn[text[0]] += 1
        audit += a
    n = 2 * SAMPLES
    x = x_after(())
    p = np.zeros(VOCABULARY)
    p[x.ids] = x.counts / speculative.TOTAL
    y = y_after(()).astype(float)
    skipped = np.array([skip(0, d) for d in range(VOCABULARY)])
    judged_mass = np.where(skipped, 0.0, np.minimum(p, y))
    rest = np.maximum(y - p, 0)
    refused = np.where(skipped, 0.0, np.maximum(p - y, 0)).sum()
    exact = np.where(skipped, p, judged_mass) + refused * rest / rest.sum()
    expected_audit = np.where(skipped, np.maximum(p - y, 0), 0.0).sum()
    assert abs(exact - y).sum() / 2 == pytest.approx(expected_audit, abs=1e-4)
    assert (
        p_value(
            [(int(t),) for t in np.repeat(np.arange(VOCABULARY), drawn.astype(int))],
            {(t,): exact[t] for t in range(VOCABULARY)},
        )
        > ALPHA
    )
    # the audit is a mean of values in [0, 1]: Hoeffding's bound at the false-alarm rate above
    assert abs(audit / n - expected_audit) < np.sqrt(np.log(2 / ALPHA) / (2 * n))


def lenient(span: list[SpanToken], y: list[Row], *, seed: int, start: int, round_: int, want_bonus: bool) -> Judged:
    """Mutant: accepts with probability min(1, 1.25 y_d / x_d)."""
    eased = [SpanToken(t.d, t.x_d / 1.25, t.x) for t in span]
    return judge(eased, y, seed=seed, start=start, round_=round_, want_bonus=want_bonus)


def shared_generator(span: list[SpanToken], y: list[Row], *, seed: int, start: int, round_: int, want_bonus: bool) -> Judged:
    """Mutant: the accept coin comes from the noise that drew the draft."""
    for j, token in enumerate(span):
        g = float(rng.gumbel(seed, start + j, round_, np.array([token.d]))[0])
        coin = float(np.exp(-np.exp(-g)))
        assert token.x is not None
        if coin < speculative.rejection(float(y[j][token.d]), token.x_d):
            return Judged(
                j, speculative.residual(y[j], token.x, rng.uniform(seed, start + j, round_, rng.Purpose.RESIDUAL)), True
            )
    last = speculative.bonus(y[-1], seed, start + len(span), round_) if want_bonus else None
    return Judged(len(span), last, False)


def biased_bonus(span: list[SpanToken], y: list[Row], *, seed: int, start: int, round_: int, want_bonus: bool) -> Judged:
    """Mutant: the bonus is the target's arg max."""
    verdict = judge(span, y, seed=seed, start=start, round_=round_, want_bonus=want_bonus)
    if verdict.corrected or verdict.token is None:
        return verdict
    return Judged(verdict.kept, int(np.argmax(y[-1])), False, verdict.audits)


def residual_of_the_target(
    span: list[SpanToken], y: list[Row], *, seed: int, start: int, round_: int, want_bonus: bool
) -> Judged:
    """Mutant: the residual is drawn from y instead of max(0, y - x)."""
    verdict = judge(span, y, seed=seed, start=start, round_=round_, want_bonus=want_bonus)
    if not verdict.corrected:
        return verdict
    coin = rng.uniform(seed, start + verdict.kept, round_, rng.Purpose.RESIDUAL)
    row = y[verdict.kept].astype(float)
    return Judged(verdict.kept, int(np.searchsorted(np.cumsum(row), coin * row.sum())), True, verdict.audits)


@pytest.mark.parametrize("mutant", [lenient, shared_generator, biased_bonus, residual_of_the_target])
def test_planted_mutants_are_caught(mutant: Judge) -> None:
    assert lossless_p(mutant) < ALPHA
