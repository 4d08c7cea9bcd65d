"""Runs of skipped tokens that are longer than an upload may be: what is sent, when, and what it counts."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from services.common import codec
from services.common.codec import MAX_SPAN_TOKENS
from services.common.messages import CandidateBatch, Status, Verdict
from services.common.speculative import Sparse
from services.edge_worker.answer import Decision, OnOutage, TokenOut
from services.edge_worker.breaker import Breaker
from services.edge_worker.fakes import LoopbackClient, TableDrafter
from services.edge_worker.gate import Gate
from services.edge_worker.session import Observer
from services.edge_worker.signals import Importance, Signal
from services.edge_worker.span import Drafted, Limits, cut, due
from services.edge_worker.transcript import Flight
from tests.edge_worker import test_answer_level as answer_level
from tests.edge_worker.conftest import Rig
from tests.edge_worker.test_session import let_go_late, uploaded

TOKENS = 360
PROMPT = 3  # tokens
UNSURE_AT = PROMPT + MAX_SPAN_TOKENS + 10
SURE, UNSURE = np.array([0.7, 0.1, 0.1, 0.1]), np.array([0.4, 0.3, 0.2, 0.1])
SEEDS = range(4)


def rarely_unsure(prefix: Sequence[int]) -> np.ndarray:
    """Sure (``u`` 0.3) but at one position in 120 on average, which the last tokens decide: there ``u`` is 0.6."""
    unsure = zlib.crc32(bytes(prefix[-8:])) % 120 == 0
    law: np.ndarray = np.roll(UNSURE if unsure else SURE, prefix[-1])
    return law


def near(prefix: Sequence[int]) -> np.ndarray:
    return np.roll(np.array([0.6, 0.2, 0.1, 0.1]), prefix[-1])


def varied(prefix: Sequence[int]) -> np.ndarray:
    weights: np.ndarray = 1.0 + (3 * np.arange(len(prefix)) + 7 * prefix[-1]) % 11
    weights /= weights.sum()
    return weights


class Verdicts(Observer):
    """What came back, in order."""

    def __init__(self) -> None:
        self.seen: list[tuple[Flight, Verdict]] = []

    def round(self, flight: Flight, verdict: Verdict, seconds: float) -> None:
        self.seen.append((flight, verdict))


def bench(
    rig: Callable[..., Rig], importance: Importance = Importance.NONE, *, unsure_at: int | None = None, **changes: Any
) -> Rig:
    """``unsure_at``: the one position with an uncertain token."""
    gate = Gate(Signal.ONE_MINUS_MAX, 0.5, importance=importance, quantile=0.0)
    attention = None if importance is Importance.NONE else varied
    law = rarely_unsure if unsure_at is None else lambda prefix: SURE if len(prefix) != unsure_at else UNSURE
    drafter, client = TableDrafter(law, attention=attention), LoopbackClient(near)
    made = rig(**{"gate": gate, "drafter": drafter, "client": client, "audit_rate": 1e-9, **changes})
    made.drafter, made.client = drafter, client
    return made


def candidates(batch: CandidateBatch) -> int:
    return sum(token.x is not None for token in batch.tokens())


def essence(tokens: list[TokenOut]) -> list[tuple[int, Decision, int | None]]:
    return [(t.id, t.decision, t.round) for t in tokens]


async def test_no_candidate_behind_a_long_run_stays_unverified(rig: Callable[..., Rig]) -> None:
    ahead = 0
    for seed in SEEDS:
        made = bench(rig)
        tokens, session = await made.write(seed, max_tokens=TOKENS)
        stats = session.stats
        assert stats.unverified == stats.lost_rounds == 0
        assert stats.degraded_reason == ""
        assert len(tokens) == stats.total == TOKENS
        assert len(made.client.opens) == 1
        sent = made.client.batches
        assert len(sent) == stats.rounds
        for batch, after in zip(sent, [*sent[1:], None], strict=True):
            if not candidates(batch):
                assert after is not None  # a run that no candidate follows is not sent
                assert len(batch.tokens()) == MAX_SPAN_TOKENS
                assert not batch.want_bonus
                ahead += 1
    assert ahead > 1


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("importance", [Importance.NONE, Importance.RECEIVED])
async def test_time_changes_nothing(rig: Callable[..., Rig], importance: Importance, k: int) -> None:
    """Verdicts at once, late verdicts with drafting ahead, and no drafting ahead: the same tokens in the same rounds."""
    ahead = 0
    for seed in range(2):
        at_once, _ = await bench(rig, importance).write(seed, max_tokens=TOKENS, k=k)
        made = bench(rig, importance)
        made.client.hold = True
        pump = asyncio.create_task(let_go_late(made, 15 + seed % 9))
        late = [token async for token in made.session(seed, max_tokens=TOKENS, k=k)]
        pump.cancel()
        alone, _ = await bench(rig, importance, ahead=False).write(seed, max_tokens=TOKENS, k=k)
        assert essence(late) == essence(at_once) == essence(alone)
        ahead += sum(not candidates(batch) for batch in made.client.batches)
    assert ahead > 1


async def test_what_goes_ahead_is_on_the_screen_already(rig: Callable[..., Rig]) -> None:
    """While the verdict on a run is held back, every token before the candidate has been shown."""
    made = bench(rig, unsure_at=UNSURE_AT)
    made.client.hold = True
    session = made.session(1, max_tokens=TOKENS)
    stream = aiter(session)
    shown = [await anext(stream) for _ in range(UNSURE_AT - PROMPT)]
    following = asyncio.ensure_future(anext(stream))
    await uploaded(made)
    assert not following.done()
    assert [token.d for token in made.client.batches[0].tokens()] == [t.id for t in shown[:MAX_SPAN_TOKENS]]
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await session.aclose()


@pytest.mark.parametrize("on_outage", list(OnOutage))
async def test_losing_what_goes_ahead_costs_its_audits_alone(rig: Callable[..., Rig], on_outage: OnOutage) -> None:
    """No token of it was to be verified: the answer is not degraded and goes on to ask about the candidate, with all ids."""
    made = bench(rig, unsure_at=UNSURE_AT)
    made.client.refuse = [Status.OVERLOADED]
    tokens, session = await made.write(1, max_tokens=UNSURE_AT, on_outage=on_outage)
    stats = session.stats
    assert stats.degraded_reason == ""
    assert (stats.lost_rounds, stats.judged, stats.unverified) == (1, 1, 0)
    assert len(made.client.opens) == 2
    assert tokens[UNSURE_AT - PROMPT].decision in (Decision.ACCEPTED, Decision.CORRECTED)
    assert stats.audits.spared_tokens >= MAX_SPAN_TOKENS
    assert stats.unaudited == 0


async def test_a_dead_link_behind_a_long_run_ends_the_answer_unverified(rig: Callable[..., Rig]) -> None:
    made = bench(rig, unsure_at=UNSURE_AT, breaker=Breaker(failures=1, pause_seconds=1000.0))
    made.client.down = "kafka"
    tokens, session = await made.write(1, max_tokens=UNSURE_AT)
    assert len(tokens) == UNSURE_AT
    assert session.stats.unverified == 1
    assert session.stats.degraded_reason == "breaker open after kafka"


async def test_local_answers_send_nothing_however_long(rig: Callable[..., Rig]) -> None:
    made = bench(rig, unsure_at=UNSURE_AT)
    _, session = await made.write(1, max_tokens=TOKENS, slm_only=True, k=0)
    level = answer_level.gated(slope=100.0)
    kept = bench(rig, unsure_at=UNSURE_AT, gate=replace(level, tau_u=0.5))
    _, kept_local = await kept.write(1, max_tokens=TOKENS)
    for client, stats in ((made.client, session.stats), (kept.client, kept_local.stats)):
        assert not client.batches
        assert not client.opens
        assert stats.skipped == stats.audits.spared_tokens == TOKENS


def run(skipped: int, *, candidates: int) -> list[Drafted]:
    skip = Drafted(0, Sparse.certain(0), 1.0, 0.1, False, False)
    return [skip] * skipped + [replace(skip, flagged=True, judged=True)] * candidates


@pytest.mark.parametrize(
    ("skipped", "candidates", "ended", "spans"),
    [
        (MAX_SPAN_TOKENS - 1, 1, False, [MAX_SPAN_TOKENS]),
        (MAX_SPAN_TOKENS, 0, False, []),
        (MAX_SPAN_TOKENS, 1, False, [MAX_SPAN_TOKENS]),  # the candidate waits for the second one
        (MAX_SPAN_TOKENS, 2, False, [MAX_SPAN_TOKENS, 2]),
        (2 * MAX_SPAN_TOKENS + 5, 1, False, [MAX_SPAN_TOKENS, MAX_SPAN_TOKENS]),
        (2 * MAX_SPAN_TOKENS + 5, 1, True, [MAX_SPAN_TOKENS, MAX_SPAN_TOKENS, 6]),
        (3 * MAX_SPAN_TOKENS, 0, True, []),
    ],
)
def test_where_uploads_end(skipped: int, candidates: int, ended: bool, spans: list[int]) -> None:
    limits = Limits(k=2, span_tokens=48, wait_tokens=12, risk=1.0)
    pending, found = run(skipped, candidates=candidates), []
    if not ended:
        assert due(pending, limits) == len(spans)
    while (n := cut(pending, limits, ended=ended)) is not None:
        pending = pending[n:]
        found.append(n)
    assert found == spans


@pytest.mark.parametrize("audit_rate", [1e-9, 1.0], ids=["left out", "drawn"])
async def test_audits_of_what_goes_ahead_weigh_one(rig: Callable[..., Rig], audit_rate: float) -> None:
    """Every skipped token is known from a round, or from the draw; only the latter weigh its inverse."""
    trailing = 0
    for seed in SEEDS:
        log = Verdicts()
        made = bench(rig, observer=log, audit_rate=audit_rate)
        _, session = await made.write(seed, max_tokens=TOKENS)
        ledger, stats = session.stats.audits, session.stats
        rounds = [codec.unpack_audits(verdict.audits) for flight, verdict in log.seen if not flight.audit_only]
        assert ledger.round_tokens == sum(map(len, rounds))
        assert ledger.round_sum == pytest.approx(sum(map(sum, rounds)))
        assert stats.unaudited == 0
        assert ledger.round_tokens + ledger.sampled_tokens + ledger.spared_tokens == stats.skipped
        assert (ledger.sampled_tokens if audit_rate < 1.0 else ledger.spared_tokens) == 0
        trailing += ledger.sampled_tokens + ledger.spared_tokens
        assert all(len(batch.tokens()) <= MAX_SPAN_TOKENS for batch in made.client.batches)
    assert trailing > MAX_SPAN_TOKENS
