"""What may be committed, and when."""

from __future__ import annotations

import random

from services.verifier.offsets import Offsets


def test_only_the_run_of_finished_messages_is_committed() -> None:
    offsets = Offsets()
    tickets = [offsets.deliver(0, n) for n in (5, 6, 9)]  # offsets may have gaps
    assert all(Offsets.start(t) for t in tickets)
    Offsets.finish(tickets[1])
    assert offsets.to_commit() == {}
    Offsets.finish(tickets[0])
    assert offsets.to_commit() == {0: 7}
    offsets.committed({0: 7})
    assert offsets.to_commit() == {}
    Offsets.finish(tickets[2])
    assert offsets.to_commit() == {0: 10}
    assert offsets.unfinished == 0


def test_any_order_of_finishing_ends_at_the_last_offset() -> None:
    order = random.Random(3)
    offsets = Offsets()
    tickets = [offsets.deliver(p, n) for p in range(3) for n in range(20)]
    order.shuffle(tickets)
    highest = dict.fromkeys(range(3), 0)
    for ticket in tickets:
        Offsets.start(ticket)
        Offsets.finish(ticket)
        for partition, offset in offsets.to_commit().items():
            assert offset >= highest[partition]
            highest[partition] = offset
    assert highest == {0: 20, 1: 20, 2: 20}


def test_a_closed_partition_starts_nothing_but_finishes_what_runs() -> None:
    offsets = Offsets()
    running, queued = offsets.deliver(0, 0), offsets.deliver(0, 1)
    assert Offsets.start(running)
    offsets.close([0])
    assert not Offsets.start(queued)
    assert offsets.running([0]) == 1
    Offsets.finish(running)
    assert offsets.running([0]) == 0
    assert offsets.to_commit() == {0: 1}


def test_gaps_before_what_has_begun_may_be_closed_and_nothing_else() -> None:
    offsets = Offsets()
    waiting, queued, begun, later = (offsets.deliver(0, n) for n in (3, 4, 5, 6))
    assert Offsets.start(waiting)
    assert Offsets.start(begun)
    assert offsets.newest(0, [3]) == 5
    assert offsets.newest(0, [3, 5]) == -1
    offsets.close([0], {0: offsets.newest(0, [])})
    assert not Offsets.start(later)
    assert Offsets.start(queued)
    assert offsets.gaps([0]) == 3
    Offsets.finish(begun)
    assert offsets.newest(0, [3, 4]) == 5
    Offsets.finish(queued)
    assert (offsets.gaps([0]), offsets.to_commit()) == (1, {})
    Offsets.finish(waiting)
    assert (offsets.gaps([0]), offsets.to_commit()) == (0, {0: 6})


def test_an_earlier_assignment_cannot_touch_a_later_one() -> None:
    offsets = Offsets()
    old = offsets.deliver(0, 7)
    assert Offsets.start(old)
    offsets.close([0])
    offsets.forget([0])
    new = offsets.deliver(0, 7)
    Offsets.finish(old)
    assert offsets.to_commit() == {}
    assert offsets.unfinished == 1
    Offsets.start(new)
    Offsets.finish(new)
    assert offsets.to_commit() == {0: 8}


def test_a_partition_read_again_from_an_earlier_offset_begins_anew() -> None:
    """Whatever order the client calls its listeners in: what an earlier assignment finished must not cover what is unread."""
    offsets = Offsets()
    old = [offsets.deliver(0, n) for n in (8, 9)]
    Offsets.start(old[0])
    again = [offsets.deliver(0, n) for n in (5, 6, 7, 8, 9)]
    assert not Offsets.start(old[1])
    Offsets.finish(old[0])
    for ticket in again[1:]:
        Offsets.start(ticket)
        Offsets.finish(ticket)
    assert offsets.to_commit() == {}
    Offsets.start(again[0])
    Offsets.finish(again[0])
    assert offsets.to_commit() == {0: 10}


def test_abandoned_work_is_not_committed() -> None:
    offsets = Offsets()
    ticket = offsets.deliver(0, 0)
    Offsets.start(ticket)
    Offsets.abandon(ticket)
    assert offsets.running([0]) == 0
    assert offsets.to_commit() == {}
