"""What the next pass is made of."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.sampling import Sampling
from services.common.speculative import SpanToken
from services.verifier.scheduler import Limits, Round, Scheduler, Step

LIMITS = Limits(max_sessions=3, token_budget=64, prefill_chunk=16)


def round_(session: bytes, *, base: int = 10, span: int = 4, deadline: float = 100.0) -> Round:
    tokens = [SpanToken(1, 1.0)] * span
    return Round(session, list(range(base)), tokens, Sampling(), 0, 0, True, deadline)


def cached(**lengths: int) -> Callable[[bytes, list[int], str], int]:
    """``valid`` for sessions of which so many leading ids are cached; all of them if not named."""
    return lambda session, ids, _tenant: min(lengths.get(session.decode(), len(ids)), len(ids))


def test_expired_rounds_are_dropped_before_they_cost_anything() -> None:
    scheduler = Scheduler(LIMITS)
    late, fine = round_(b"a", deadline=5.0), round_(b"b", deadline=6.0)
    scheduler.add_round(late)
    scheduler.add_round(fine)
    step = scheduler.take(5.0, cached())
    assert step.expired == [late]
    assert step.rounds == [fine]
    assert len(scheduler) == 0


def test_earliest_deadline_first_up_to_the_limit_of_sessions() -> None:
    scheduler = Scheduler(LIMITS)
    for name, deadline in ((b"a", 40.0), (b"b", 10.0), (b"c", 30.0), (b"d", 20.0)):
        scheduler.add_round(round_(name, deadline=deadline))
    assert [r.session for r in scheduler.take(0.0, cached()).rounds] == [b"b", b"d", b"c"]
    assert [r.session for r in scheduler.take(0.0, cached()).rounds] == [b"a"]


def test_a_long_row_does_not_make_the_padding_exceed_the_budget() -> None:
    scheduler = Scheduler(LIMITS)
    scheduler.add_round(round_(b"long", span=40, deadline=1.0))
    scheduler.add_round(round_(b"b", deadline=2.0))
    scheduler.add_round(round_(b"c", deadline=3.0))
    assert [r.session for r in scheduler.take(0.0, cached()).rounds] == [b"long"]
    assert [r.session for r in scheduler.take(0.0, cached()).rounds] == [b"b", b"c"]


def test_a_row_above_the_budget_still_gets_its_turn_alone() -> None:
    scheduler = Scheduler(LIMITS)
    scheduler.add_round(round_(b"huge", span=100))
    assert len(scheduler.take(0.0, cached()).rounds) == 1


def test_two_rounds_of_one_session_are_refused() -> None:
    scheduler = Scheduler(LIMITS)
    scheduler.add_round(round_(b"a"))
    with pytest.raises(ValueError, match="two rounds"):
        scheduler.add_round(round_(b"a"))


def test_a_long_prompt_takes_turns_with_rounds() -> None:
    """A round waits for one chunk at most, and the prompt moves on between rounds."""
    scheduler = Scheduler(LIMITS)
    have = 0
    scheduler.add_prompt(b"long", list(range(100)), now=0.0)
    kinds = []
    for turn in range(14):
        if turn % 2 == 0:
            scheduler.add_round(round_(f"{turn}".encode()))
        step = scheduler.take(0.0, cached(long=have))
        if step.chunks:
            assert len(step.chunks[0].ids) - have <= LIMITS.prefill_chunk
            have = len(step.chunks[0].ids)
        kinds.append("rounds" if step.rounds else "chunks")
    assert kinds == ["rounds", "chunks"] * 7
    assert have == 100


def test_a_round_to_rebuild_is_fed_in_chunks_and_then_judged() -> None:
    scheduler = Scheduler(LIMITS)
    scheduler.add_round(round_(b"a", base=50))
    have, steps = 0, []
    while len(scheduler):
        step = scheduler.take(0.0, cached(a=have))
        steps.append(step)
        if step.chunks:
            have = len(step.chunks[0].ids)
    assert [len(s.chunks[0].ids) for s in steps[:-1]] == [16, 32, 48]
    assert len(steps[-1].rounds) == 1


def test_a_prompt_that_is_cached_already_costs_nothing() -> None:
    scheduler = Scheduler(LIMITS)
    scheduler.add_prompt(b"a", [1, 2, 3], now=0.0)
    assert scheduler.take(0.0, cached()) == Step()
    assert len(scheduler) == 0


def test_more_prompts_than_slots_are_not_fed_ahead() -> None:
    scheduler = Scheduler(Limits(8, 1000, 16, prompts=2))
    for name in (b"a", b"b", b"a", b"c"):
        scheduler.add_prompt(name, [1], now=0.0)
    assert [c.session for c in scheduler.take(0.0, cached(a=0, b=0, c=0)).chunks] == [b"a", b"c"]


def test_discard_returns_the_round_and_forgets_the_prompt() -> None:
    scheduler = Scheduler(LIMITS)
    item = round_(b"a")
    scheduler.add_prompt(b"a", [1], now=0.0)
    scheduler.add_round(item)
    assert scheduler.discard(b"a") is item
    assert scheduler.discard(b"a") is None
    assert len(scheduler) == 0


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(0, 30), st.integers(0, 60), st.floats(1, 9)), min_size=1, max_size=12),
    st.integers(1, 5),
    st.integers(1, 200),
)
def test_every_round_is_served_once_and_no_pass_breaks_its_limits(
    rounds: list[tuple[int, int, int, float]], sessions: int, budget: int
) -> None:
    limits = Limits(sessions, budget, 16)
    scheduler = Scheduler(limits)
    have: dict[bytes, int] = {}
    for i, (base, span, known, deadline) in enumerate(rounds):
        name = f"{i}".encode()
        have[name] = min(known, base)
        scheduler.add_round(round_(name, base=base, span=span, deadline=deadline))
    served: list[bytes] = []
    for _ in range(1000):
        if not len(scheduler):
            break
        step = scheduler.take(0.0, lambda s, ids, _: min(have[s], len(ids)))
        sizes = [len(r.base) - min(have[r.session], len(r.base) - 1) + len(r.span) for r in step.rounds]
        sizes += [len(c.ids) - have[c.session] for c in step.chunks]
        assert 0 < len(sizes) <= sessions
        assert len(sizes) == 1 or len(sizes) * max(sizes) <= budget
        for chunk in step.chunks:
            have[chunk.session] = len(chunk.ids)
        served += [r.session for r in step.rounds]
    assert sorted(served) == sorted(have)
