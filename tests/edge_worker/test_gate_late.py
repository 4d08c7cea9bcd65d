"""A gate with importance in the session loop: decisions that come one step late, exact laws, nothing shown too early."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from services.common.messages import Mode
from services.edge_worker.answer import Decision, TokenOut
from services.edge_worker.draft import Step, StepRequest
from services.edge_worker.fakes import TableDrafter
from services.edge_worker.gate import Gate
from services.edge_worker.session import Session
from services.edge_worker.signals import Importance, Signal
from tests.edge_worker.conftest import END, Rig, draft_law
from tests.edge_worker.test_session import let_go_late

KINDS = [Importance.BINDING, Importance.RECEIVED]


def attention(prefix: Sequence[int]) -> np.ndarray:
    """Rows that depend on every token so far, so that a wrong or missing prefix shows."""
    weights = np.array([1.0 + (7 * sum(prefix) + 3 * at + 5 * prefix[at]) % 11 for at in range(len(prefix))])
    weights[0] += 4 * (sum(prefix) % 5)
    weights /= weights.sum()
    return weights


class Watching(TableDrafter):
    """Remembers which positions each step was asked for."""

    def __init__(self, **options: Any) -> None:
        super().__init__(draft_law, attention=attention, **options)
        self.asked: list[StepRequest] = []

    async def step(self, request: StepRequest) -> Step:
        self.asked.append(request)
        return await super().step(request)


def gated(kind: Importance, tau: float = 0.1, quantile: float = 0.5) -> Gate:
    return Gate(Signal.ONE_MINUS_MAX, tau, importance=kind, quantile=quantile, window=16)


def with_importance(rig: Callable[..., Rig], kind: Importance, **changes: Any) -> Rig:
    drafter = Watching()
    bench = rig(**{"gate": gated(kind), "drafter": drafter, **changes})
    bench.drafter = drafter
    return bench


def essence(tokens: list[TokenOut]) -> list[tuple[int, Decision, int | None]]:
    return [(t.id, t.decision, t.round) for t in tokens]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limits", [{}, {"span_tokens": 3, "wait_tokens": 2}, {"risk": 0.3}], ids=["wide", "short", "wary"])
async def test_time_changes_nothing(rig: Callable[..., Rig], kind: Importance, limits: dict[str, Any]) -> None:
    """Verdicts at once, late verdicts with drafting ahead, and no drafting ahead: the same tokens in the same rounds."""
    rounds = hits = 0
    for seed in range(20):
        at_once, session = await with_importance(rig, kind, **limits).write(seed, max_tokens=16)
        bench = with_importance(rig, kind, **limits)
        bench.client.hold = True
        pump = asyncio.create_task(let_go_late(bench, 15 + seed % 9))
        late = [token async for token in bench.session(seed, max_tokens=16)]
        pump.cancel()
        alone, _ = await with_importance(rig, kind, ahead=False, **limits).write(seed, max_tokens=16)
        assert essence(late) == essence(at_once) == essence(alone)
        rounds += session.stats.rounds
        hits += sum(t.decision is Decision.BONUS and t.uncertainty is not None for t in late)
    assert rounds > 20
    assert hits > 7  # positions drafted ahead of their bonus did occur


@pytest.mark.parametrize("kind", KINDS)
async def test_importance_asks_less_and_is_used(rig: Callable[..., Rig], kind: Importance) -> None:
    asked = {}
    for quantile in (None, 0.2, 0.8):
        gate = gated(Importance.NONE) if quantile is None else gated(kind, quantile=quantile)
        bench = with_importance(rig, kind, gate=gate)
        judged = total = 0
        for seed in range(12):
            _, session = await bench.write(seed, max_tokens=20)
            judged, total = judged + session.stats.judged, total + session.stats.total
        asked[quantile] = judged / total
    assert asked[None] > asked[0.2] > asked[0.8] + 0.1
    assert asked[0.8] > 0.1


async def test_an_uncertain_token_waits_for_its_successor_and_a_sure_one_does_not(rig: Callable[..., Rig]) -> None:
    """``u`` is 0.45 at even positions and 0.15 at odd ones; the prompt has three tokens."""
    bench = with_importance(rig, Importance.RECEIVED, gate=gated(Importance.RECEIVED, tau=0.3))
    session: Session = bench.session(3, max_tokens=12)
    drafter = bench.drafter
    assert isinstance(drafter, Watching)
    steps = [(t.decision, t.uncertainty or 0.0, len(drafter.asked)) async for t in session]
    skipped = [(at, u, n) for at, (decision, u, n) in enumerate(steps) if decision is Decision.SKIPPED]
    assert skipped[0][0] == 0
    assert skipped[0][2] == 1  # sure: shown after its own step
    uncertain = [(at, n) for at, u, n in skipped if u > 0.3]
    assert uncertain
    assert all(n >= at + 2 for at, n in uncertain)


async def test_a_round_that_ends_late_draws_the_next_position_again(rig: Callable[..., Rig]) -> None:
    """The draft after a late boundary carries the next round's noise, without feeding anything twice."""
    bench = with_importance(rig, Importance.RECEIVED, gate=gated(Importance.RECEIVED, quantile=0.0))
    drafter = bench.drafter
    assert isinstance(drafter, Watching)
    for seed in range(10):
        await bench.write(seed, max_tokens=16, k=1)
    again = [(a, b) for a, b in zip(drafter.asked, drafter.asked[1:], strict=False) if not b.tokens]
    assert again
    for first, second in again:
        assert second.start == first.start + len(first.tokens)
        assert second.round == first.round + 1


@pytest.mark.parametrize("kind", KINDS)
async def test_every_answer_ends(rig: Callable[..., Rig], kind: Importance) -> None:
    """Whatever stands at the end: the last token, an end token, a single token; a dead link included."""
    for seed in range(15):
        for length in (1, 2, 3, 7):
            tokens, session = await with_importance(rig, kind).write(seed, max_tokens=length)
            assert len(tokens) == session.stats.total == length
        ends = with_importance(rig, kind, end_ids=frozenset({3, END}))
        tokens, session = await ends.write(seed, max_tokens=12)
        assert session.stats.finish_reason == ("stop" if tokens[-1].id == 3 else "length")
        assert 3 not in [t.id for t in tokens[:-1]]
        dead = with_importance(rig, kind)
        dead.client.down = "kafka"
        tokens, _ = await dead.write(seed, max_tokens=9)
        assert len(tokens) == 9
        assert {t.decision for t in tokens} <= {Decision.SKIPPED, Decision.UNVERIFIED}


async def test_a_lost_verdict_leaves_no_token_undecided(rig: Callable[..., Rig]) -> None:
    """The guess at the bonus becomes an ordinary token when its round is lost."""
    seen: Counter[Decision] = Counter()
    for seed in range(10):
        bench = with_importance(rig, Importance.RECEIVED)
        bench.client.hold = True
        tokens, session = await bench.write(seed, max_tokens=14, deadline_seconds=0.01)
        assert len(tokens) == session.stats.total == 14
        seen.update(t.decision for t in tokens)
    assert seen[Decision.UNVERIFIED] > 10
    assert seen[Decision.SKIPPED] > 10


async def test_lossless_never_asks_for_an_importance_that_sees_the_draft(rig: Callable[..., Rig]) -> None:
    for kind, expected in ((Importance.RECEIVED, Importance.NONE), (Importance.BINDING, Importance.BINDING)):
        bench = with_importance(rig, kind)
        await bench.write(1, mode=Mode.LOSSLESS, max_tokens=8)
        drafter = bench.drafter
        assert isinstance(drafter, Watching)
        assert {a.importance for a in drafter.asked} == {expected}
        assert {a.blind for a in drafter.asked} == {True}


@pytest.mark.parametrize("kind", KINDS)
async def test_k_zero_and_gamma_zero_compute_no_importance(rig: Callable[..., Rig], kind: Importance) -> None:
    for changes in ({"slm_only": True, "k": 0}, {"gamma": 0.0}):
        bench = with_importance(rig, kind, audit_rate=0.0)
        tokens, _ = await bench.write(1, max_tokens=8, **changes)
        drafter = bench.drafter
        assert isinstance(drafter, Watching)
        assert {a.importance for a in drafter.asked} == {Importance.NONE}
        if "slm_only" in changes:
            assert {t.decision for t in tokens} == {Decision.SKIPPED}
            assert not bench.client.opens
            assert not bench.client.batches
