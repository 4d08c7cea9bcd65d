"""Whole short answers through the edge's session loop and the verifier's engine, with real (tiny) models on both sides.

False-alarm rate of each test: 1e-6, with fixed seeds. The last test shows the power: a lenient verifier is caught.
"""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from services.common import speculative
from services.common.messages import Mode
from services.common.sampling import Sampling
from services.edge_worker.answer import AnswerRequest, OnOutage
from services.edge_worker.breaker import Breaker
from services.edge_worker.gate import Gate
from services.edge_worker.session import Observer, Session, Worker
from services.edge_worker.signals import Signal
from services.verifier import engine
from tests.end_to_end import tiny

ALPHA = 1e-6
ANSWERS = 1500
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
    count: int, *, mode: Mode, gamma: float, sampling: Sampling, signal: Signal
) -> tuple[list[tuple[int, ...]], float]:
    """``count`` answers and the mean of their audit sums."""
    drafter = tiny.drafter(DRAFT, signal)
    worker = Worker(
        name="edge",
        drafter=drafter,
        client=tiny.EngineClient(TARGET),
        breaker=Breaker(),
        gate=Gate(signal, 0.5),
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
        request = AnswerRequest(PROMPT, LENGTH, sampling, seed, mode, 2, gamma, 60.0, OnOutage.ERROR)
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
    from services.edge_worker.gate import uncertainty

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
