"""Whole short answers through the edge's session loop and the verifier's engine, with real (tiny) models on both sides.

False-alarm rate of each test: 1e-6, with fixed seeds. The last test shows the power: a lenient verifier is caught.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from services.common import speculative
from services.common.lm.attention import LastRow
from services.common.lm.engine import CausalEngine
from services.common.messages import Mode
from services.common.sampling import Sampling
from services.edge_worker.answer import AnswerRequest, OnOutage
from services.edge_worker.breaker import Breaker
from services.edge_worker.gate import Gate, uncertainty
from services.edge_worker.gate.importance import binding, received
from services.edge_worker.session import Observer, Session, Worker
from services.edge_worker.signals import Importance, Signal
from services.verifier import engine
from tests.end_to_end import tiny

ALPHA = 1e-6
ANSWERS = 1500
FEWER = 500
LENGTH = 3
PROMPT = [0, 3, 1]
DRAFT, TARGET = tiny.model(1), tiny.model(2)


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


async def write(
    count: int,
    *,
    mode: Mode,
    gamma: float,
    sampling: Sampling,
    signal: Signal,
    importance: Importance = Importance.NONE,
    quantile: float = 0.5,
    k: int = 2,
) -> tuple[list[tuple[int, ...]], float]:
    """``count`` answers and the mean of their audit sums."""
    drafter = tiny.drafter(DRAFT, signal)
    worker = Worker(
        drafter=drafter,
        client=tiny.client(TARGET),
        breaker=Breaker(),
        gate=Gate(signal, 0.5, importance=importance, quantile=quantile),
        end_ids=frozenset(),
        tokenizer_hash="",
        target="",
        span_tokens=8,
        wait_tokens=8,
        risk=1.0,
        audit_rate=1.0,
        wait_seconds=60.0,
        observer=Observer(),
    )
    texts, audit = [], 0.0
    for seed in range(count):
        slot = drafter.acquire()
        assert slot is not None
        request = AnswerRequest(PROMPT, LENGTH, sampling, seed, mode, k, gamma, 60.0, OnOutage.ERROR)
        session = Session(request, worker, slot)
        texts.append(tuple([t.id async for t in session]))
        audit += session.stats.audit_sum
        assert session.stats.unverified == 0
    drafter.close()
    return texts, audit / count


def target_law(sampling: Sampling) -> dict[tuple[int, ...], float]:
    out: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(LENGTH):
        rows = {text: tiny.law(TARGET, [*PROMPT, *text], sampling) for text in out}
        out = {(*text, t): p * rows[text][t] for (text, p), t in product(out.items(), range(tiny.VOCABULARY))}
    return out


def p_value(texts: list[tuple[int, ...]], law: dict[tuple[int, ...], float]) -> float:
    seen = Counter(texts)
    observed = np.array([seen[t] for t in law], dtype=float)
    expected = np.array(list(law.values())) * len(texts)
    if observed[expected == 0].any():
        return 0.0
    rare = expected < 6
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    keep = expected > 0
    return float(stats.chisquare(observed[keep], expected[keep] * observed.sum() / expected[keep].sum()).pvalue)


SAMPLINGS = {"temperature 1": Sampling(), "temperature 0.7, top-p 0.9": Sampling(temperature=0.7, top_p=0.9)}


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(("mode", "gamma"), [(Mode.LOSSLESS, 1.0), (Mode.OPPORTUNISTIC, 0.0)], ids=["lossless", "gamma 0"])
async def test_the_output_law_is_the_target_s(mode: Mode, gamma: float, sampling: str) -> None:
    texts, _ = await write(ANSWERS, mode=mode, gamma=gamma, sampling=SAMPLINGS[sampling], signal=Signal.ONE_MINUS_MAX)
    assert p_value(texts, target_law(SAMPLINGS[sampling])) > ALPHA


@pytest.mark.parametrize("signal", [Signal.ONE_MINUS_MAX, Signal.TEMPERATURE_PERTURBATION], ids=["blind to d", "sees d"])
async def test_the_first_token_s_total_variation_is_its_expected_audit(signal: Signal) -> None:
    """At one position the law is known exactly: TV(output, target) = expected audit, for gates with and without sight of
    ``d``."""
    count = ANSWERS
    x = tiny.law(DRAFT, PROMPT, Sampling())
    y = tiny.law(TARGET, PROMPT, Sampling())
    sparse = speculative.Sparse.cut(np.arange(len(x)), x, len(x))
    cut = np.zeros(len(x))
    cut[sparse.ids] = sparse.counts / speculative.TOTAL
    with torch.inference_mode():
        logits = DRAFT(input_ids=torch.tensor([PROMPT])).logits[0, -1, : tiny.VOCABULARY]
    gate = Gate(signal, 0.5)
    skipped = np.array(
        [not gate.flag(uncertainty(logits, d, signal), 1.0, seed=0, position=0, round_=0) for d in range(len(x))]
    )
    over = np.where(skipped, 0.0, np.maximum(cut - y, 0)).sum()
    rest = np.maximum(y - cut, 0)
    law = np.where(skipped, cut, np.minimum(cut, y)) + over * rest / rest.sum()
    expected_audit = np.where(skipped, np.maximum(cut - y, 0), 0.0).sum()
    assert np.abs(law - y).sum() / 2 == pytest.approx(expected_audit, abs=1e-9)
    texts, _ = await write(count, mode=Mode.OPPORTUNISTIC, gamma=1.0, sampling=Sampling(), signal=signal)
    firsts: list[tuple[int, ...]] = [t[:1] for t in texts]
    assert p_value(firsts, {(t,): float(law[t]) for t in range(len(x))}) > ALPHA


@pytest.mark.parametrize(
    ("mode", "gamma", "importance"),
    [(Mode.LOSSLESS, 1.0, Importance.BINDING), (Mode.OPPORTUNISTIC, 0.0, Importance.RECEIVED)],
    ids=["lossless, binding", "gamma 0, received"],
)
async def test_importance_leaves_exact_modes_exact(mode: Mode, gamma: float, importance: Importance) -> None:
    texts, _ = await write(
        FEWER, mode=mode, gamma=gamma, sampling=Sampling(), signal=Signal.ONE_MINUS_MAX, importance=importance
    )
    assert p_value(texts, target_law(Sampling())) > ALPHA


def output_law(importance: Importance, gate: Gate, *, known: bool = True) -> tuple[dict[tuple[int, ...], float], float]:
    """Law of whole opportunistic answers of one round, and the mean of their audits, by enumeration.

    At each position the gate sees the prefix, ``d`` and the importance of the drafts that stayed; a corrected token leaves
    none. ``known``: the gate sees importance at all.
    """
    law: dict[tuple[int, ...], float] = {}
    states: dict[tuple[tuple[int, ...], tuple[float, ...]], float] = {((), ()): 1.0}
    audits = 0.0
    for place in range(LENGTH):
        after: dict[tuple[tuple[int, ...], tuple[float, ...]], float] = {}
        for (text, history), p in states.items():
            x, y, logits = rows_after(text)
            i = [importance_of(text, d, importance) for d in range(len(x))]
            last = place == LENGTH - 1 and importance is Importance.RECEIVED  # its importance is never known
            skipped = np.array(
                [
                    not (
                        gate.flag(uncertainty(logits, d, gate.signal), 1.0, seed=0, position=0, round_=0)
                        and gate.important(i[d] if known and not last else None, 1.0, history)
                    )
                    for d in range(len(x))
                ]
            )
            over, rest = np.where(skipped, 0.0, np.maximum(x - y, 0)).sum(), np.maximum(y - x, 0)
            audits += p * np.where(skipped, np.maximum(x - y, 0), 0.0).sum()
            for d in range(len(x)):
                for step, kept in (((x if skipped[d] else np.minimum(x, y))[d], True), (over * rest[d] / rest.sum(), False)):
                    if step > 0:
                        state = ((*text, d), (*history, i[d]) if kept else history)
                        after[state] = after.get(state, 0.0) + p * float(step)
        states = after
    for (text, _), p in states.items():
        law[text] = law.get(text, 0.0) + p
    return law, audits


@cache
def rows_after(text: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """``x`` as it is sampled from, ``y``, and the draft's logits."""
    prefix = [*PROMPT, *text]
    p = tiny.law(DRAFT, prefix, Sampling())
    sparse = speculative.Sparse.cut(np.arange(len(p)), p, len(p))
    x = np.zeros(len(p))
    x[sparse.ids] = sparse.counts / speculative.TOTAL
    with torch.inference_mode():
        logits = DRAFT(input_ids=torch.tensor([prefix])).logits[0, -1, : tiny.VOCABULARY]
    return x, tiny.law(TARGET, prefix, Sampling()), logits


@cache
def importance_of(text: tuple[int, ...], d: int, kind: Importance) -> float:
    """From a pass of its own: the row that ``d`` came from, or the row after it."""
    watch = LastRow(0)
    prefix = [*PROMPT, *text] if kind is Importance.BINDING else [*PROMPT, *text, d]
    CausalEngine(DRAFT, slots=1, capacity_tokens=tiny.CAPACITY).hidden([0], [0], [prefix], watch)
    assert watch.weights is not None
    return binding(watch.weights[0]) if kind is Importance.BINDING else received(watch.weights[0])


@pytest.mark.parametrize("kind", [Importance.BINDING, Importance.RECEIVED])
async def test_a_gate_with_importance_writes_its_own_law(kind: Importance) -> None:
    """Late decisions included: whole answers against an enumeration that knows nothing of the session loop. No bonus falls
    inside an answer here (``k`` is its length). Without importance this gate would skip nothing."""
    gate = Gate(Signal.ONE_MINUS_MAX, 0.5, importance=kind, quantile=1.0)
    law, audits = output_law(kind, gate)
    assert sum(law.values()) == pytest.approx(1.0, abs=1e-6)
    texts, measured = await write(
        FEWER,
        mode=Mode.OPPORTUNISTIC,
        gamma=1.0,
        sampling=Sampling(),
        signal=gate.signal,
        importance=kind,
        quantile=1.0,
        k=LENGTH,
    )
    assert p_value(texts, law) > ALPHA
    assert measured == pytest.approx(audits, abs=0.03)
    assert output_law(kind, gate, known=False)[1] == 0.0 < measured


async def test_greedy_is_the_target_s_own_greedy_text() -> None:
    greedy = Sampling(temperature=0.0)
    for mode, gamma in ((Mode.LOSSLESS, 1.0), (Mode.OPPORTUNISTIC, 0.0)):
        texts, _ = await write(1, mode=mode, gamma=gamma, sampling=greedy, signal=Signal.ONE_MINUS_MAX)
        expected: list[int] = []
        for _ in range(LENGTH):
            expected.append(int(tiny.law(TARGET, [*PROMPT, *expected], greedy).argmax()))
        assert texts == [tuple(expected)]


async def test_a_lenient_verifier_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def lenient(span: list[speculative.SpanToken], y: Any, **about: Any) -> speculative.Judged:
        return speculative.judge([speculative.SpanToken(t.d, t.x_d / 1.6, t.x) for t in span], y, **about)

    monkeypatch.setattr(engine, "judge", lenient)
    texts, _ = await write(ANSWERS, mode=Mode.LOSSLESS, gamma=1.0, sampling=Sampling(), signal=Signal.ONE_MINUS_MAX)
    assert p_value(texts, target_law(Sampling())) < ALPHA
