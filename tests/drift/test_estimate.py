"""The Horvitz-Thompson estimate of an answer's damage, through the session loop, against the laws themselves.

Both tests of a mean: z test at a false-alarm rate of 1e-6, fixed seeds. Audits travel in one byte, which moves a mean by at
most 1/510.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from services.common.drift.ledger import LOSS_CLIP, Ledger
from services.common.rng import Floats
from services.edge_worker.answer import Decision, OnOutage
from services.edge_worker.auditing import drawn
from services.edge_worker.breaker import Breaker
from tests.drift.conftest import FALSE_ALARM, Bench

ROUNDING = 1.0 / 510
ANSWERS = 800
Z = float(stats.norm.isf(FALSE_ALARM / 2))


def draft_law(prefix: Sequence[int]) -> Floats:
    """Unsure at every third position."""
    row = [0.4, 0.3, 0.2, 0.1] if len(prefix) % 3 == 0 else [0.85, 0.05, 0.05, 0.05]
    return np.roll(np.array(row), prefix[-1])


def target_law(prefix: Sequence[int]) -> Floats:
    return np.roll(np.array([0.45, 0.25, 0.2, 0.1]), prefix[-1])


def bench(**changes: Any) -> Bench:
    return Bench(draft_law, target_law, **changes)


async def paired(rig: Bench, **changes: Any) -> tuple[Floats, Floats, Floats]:
    """Per answer: damage, its estimate, and what rounds alone would say."""
    rows = []
    for seed in range(ANSWERS):
        tokens, session = await rig.write(seed, **changes)
        assert session.stats.unaudited == 0
        alone = session.stats.audits.round_sum / len(tokens)
        rows.append((rig.damage(tokens, session), session.stats.damage, alone))
    damage, estimate, rounds = np.array(rows).T
    return damage, estimate, rounds


def biased(estimate: Floats, damage: Floats) -> bool:
    gap = estimate - damage
    return bool(abs(gap.mean()) > Z * gap.std() / np.sqrt(len(gap)) + ROUNDING)


@pytest.mark.parametrize("changes", [{}, {"gamma": 10.0}, {"slm_only": True, "k": 0}], ids=["rounds", "local", "k = 0"])
async def test_the_estimate_is_unbiased_and_without_the_sampled_audits_it_is_not(changes: dict[str, Any]) -> None:
    damage, estimate, rounds = await paired(bench(), **changes)
    assert damage.mean() > 0.1
    assert not biased(estimate, damage)
    assert biased(rounds, damage)
    assert rounds.mean() < 0.8 * damage.mean()


async def test_the_draw_is_known_before_generation_and_no_part_of_the_answer() -> None:
    all_, none = bench(audit_rate=1.0), bench(audit_rate=0.0)
    for seed in range(20):
        assert [t.id for t in (await all_.write(seed))[0]] == [t.id for t in (await none.write(seed))[0]]
    rate = 0.2
    hits = sum(drawn(bench().request(seed), rate) for seed in range(4000))
    assert stats.binomtest(hits, 4000, rate).pvalue > FALSE_ALARM
    same = {drawn(bench().request(7, audit_seed=n), rate) for n in range(100)}
    assert same == {True, False}, "a client that always sends the same seed must not decide it"


async def test_at_rate_zero_nothing_is_uploaded_for_audit_and_the_account_says_what_is_unknown() -> None:
    rig = bench(audit_rate=0.0)
    tokens, session = await rig.write(1, slm_only=True, k=0)
    assert rig.client.batches == []
    assert session.stats.unaudited == len(tokens)


async def test_a_long_local_answer_is_audited_in_pieces_as_long_as_an_upload_may_be() -> None:
    rig = bench(audit_rate=1.0)
    tokens, session = await rig.write(1, slm_only=True, k=0, max_tokens=11)
    assert [len(b.tokens()) for b in rig.client.batches] == [4, 4, 3]
    assert len(rig.client.opens) == 1
    assert session.stats.audits.sampled_tokens == 11
    assert session.stats.damage == pytest.approx(rig.damage(tokens, session), abs=ROUNDING)
    assert {t.decision for t in tokens} == {Decision.SKIPPED}


async def through_an_outage(rig: Bench, seed: int, *, back: bool) -> tuple[Any, Any]:
    """The link goes after the first answered tokens, and comes back (or not) before the answer ends."""
    session = rig.session(seed, max_tokens=30, k=1)
    tokens = []
    rig.client.down = ""
    async for token in session:
        tokens.append(token)
        if len(tokens) == 6:
            rig.client.down = "kafka"
        if back and len(tokens) == 20:
            rig.client.down = ""
    return tokens, session


async def test_the_spans_of_an_outage_are_audited_once_the_link_is_back() -> None:
    rig = bench(audit_rate=1.0, breaker=Breaker(failures=1000))
    sampled = 0
    for seed in range(20):
        tokens, session = await through_an_outage(rig, seed, back=True)
        assert session.stats.unverified > 0
        assert session.stats.unaudited == 0
        assert session.stats.damage == pytest.approx(rig.damage(tokens, session), abs=ROUNDING)
        sampled += session.stats.audits.sampled_tokens
    assert sampled > 40


@pytest.mark.parametrize("rate", [1.0, 0.001])
async def test_what_cannot_be_audited_is_counted_drawn_or_not(rate: float) -> None:
    rig = bench(audit_rate=rate)
    _, session = await through_an_outage(rig, 1, back=False)
    known = session.stats.audits.round_tokens
    assert session.stats.unaudited == session.stats.skipped - known > 0


async def test_a_lost_audit_fails_no_answer_and_its_tokens_count_as_unknown() -> None:
    rig = bench(audit_rate=1.0)
    rig.client.hold = True
    tokens, session = await rig.write(1, gamma=10.0, on_outage=OnOutage.ERROR, deadline_seconds=0.02)
    assert len(tokens) == 6
    assert session.stats.finish_reason == "length"
    assert session.stats.causes == {"deadline": 1}
    assert session.stats.unaudited == 6
    assert not session.stats.degraded_reason


async def test_an_answer_that_is_broken_off_knows_nothing_of_its_last_tokens() -> None:
    session = bench(audit_rate=1.0).session(3, slm_only=True, k=0)
    shown = 0
    async for _ in session:
        shown += 1
        if shown == 3:
            await asyncio.sleep(0)
            break
    await session.aclose()
    assert session.stats.unaudited == session.stats.skipped == 3


def test_a_single_answer_is_clipped_and_the_clip_never_makes_it_larger() -> None:
    ledger = Ledger(rate=0.02)
    ledger.in_round([0.5])
    ledger.sampled([1.0, 1.0])
    assert ledger.damage(4) == pytest.approx((0.5 + 2 / 0.02) / 4)
    assert ledger.loss(4) == LOSS_CLIP < ledger.damage(4)
    assert ledger.loss(4000) == ledger.damage(4000)
