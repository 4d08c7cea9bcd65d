"""What the next pass is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

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


def test_a_pass_costs_its_tokens_not_its_longest_row() -> None:
    scheduler = Scheduler(LIMITS)
    scheduler.add_round(round_(b"long", span=50, deadline=1.0))
    scheduler.add_round(round_(b"b", deadline=2.0))
    scheduler.add_round(round_(b"c", span=20, deadline=3.0))
    assert [r.session for r in scheduler.take(0.0, cached()).rounds] == [b"long", b"b"]
    assert [r.session for r in scheduler.take(0.0, cached()).rounds] == [b"c"]


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
    assert {c.session for c in scheduler.take(0.0, cached(a=0, b=0, c=0)).chunks} == {b"a", b"c"}


def test_prefixes_have_a_budget_of_their_own() -> None:
    scheduler = Scheduler(Limits(8, 1000, 16))
    for number, name in enumerate((b"a", b"b", b"c")):
        scheduler.add_prompt(name, [number] * 10, now=number)
    assert [len(c.ids) for c in scheduler.take(0.0, cached(a=0, b=0, c=0)).chunks] == [10]


def test_of_prompts_with_the_same_beginning_one_is_fed_and_the_others_copy_it() -> None:
    scheduler = Scheduler(Limits(8, 1000, 64))
    system, have = list(range(40)), dict.fromkeys("abc", 0)
    for number, name in enumerate((b"a", b"b", b"c")):
        scheduler.add_prompt(name, [*system, number], now=number, tenant="t" if number < 2 else "u")
    assert [c.session for c in scheduler.take(0.0, cached(**have)).chunks] == [b"a"]
    assert [c.session for c in scheduler.take(0.0, cached(a=41, b=0, c=0)).chunks] == [b"c"]
    assert [len(c.ids) for c in scheduler.take(0.0, cached(a=41, b=40, c=41)).chunks] == [41]


def test_a_prefix_is_fed_on_after_its_round_has_expired() -> None:
    scheduler = Scheduler(LIMITS)
    scheduler.add_round(round_(b"a", base=50, deadline=1.0))
    have, passes = 16, 0
    assert scheduler.take(0.0, cached(a=0)).chunks[0].ids == list(range(16))
    step = scheduler.take(2.0, cached(a=have))
    assert [r.session for r in step.expired] == [b"a"]
    while step.chunks:
        have, passes = len(step.chunks[0].ids), passes + 1
        step = scheduler.take(2.0, cached(a=have))
    assert (have, passes) == (50, 3)


def test_a_round_that_would_expire_in_its_pass_is_dropped_before_it() -> None:
    scheduler = Scheduler(LIMITS)
    scheduler.took(0.5)
    late, fine = round_(b"a", deadline=1.4), round_(b"b", deadline=1.6)
    scheduler.add_round(late)
    scheduler.add_round(fine)
    step = scheduler.take(1.0, cached())
    assert (step.late, step.rounds) == ([late], [fine])


def test_passes_that_were_slow_once_do_not_stop_everything() -> None:
    scheduler = Scheduler(LIMITS)
    scheduler.took(60.0)
    served = 0
    for number in range(50):
        scheduler.add_round(round_(b"%d" % number, deadline=1.0))
        if rounds := scheduler.take(0.0, cached()).rounds:
            served += len(rounds)
            scheduler.took(0.1)
    assert served == 50
    assert scheduler.pass_seconds < 1.0


def test_a_round_behind_too_many_of_its_own_tenant_is_refused_at_once() -> None:
    scheduler = Scheduler(LIMITS)
    scheduler.took(0.1)
    assert scheduler.refuse(round_(b"first", deadline=0.05), now=0.0) == "", "nothing is before it: one pass may show the way"
    for number in range(20):
        scheduler.add_round(round_(b"%d" % number, span=15, deadline=0.4))
    assert "320 tokens" in scheduler.refuse(round_(b"a", deadline=0.5), now=0.0)
    assert scheduler.refuse(round_(b"a", deadline=2.0), now=0.0) == ""
    other = replace(round_(b"a", deadline=0.5), tenant="other")
    assert scheduler.refuse(other, now=0.0) == "", "what others have waiting is their share's business"


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
        assert len(sizes) == 1 or sum(sizes) <= (budget if step.rounds else limits.prefill_chunk)
        for chunk in step.chunks:
            have[chunk.session] = len(chunk.ids)
        served += [r.session for r in step.rounds]
    assert sorted(served) == sorted(have)
