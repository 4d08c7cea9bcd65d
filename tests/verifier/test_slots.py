"""Which ids need not be fed again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verifier.slots import SlotTable, common_prefix

Ids = st.lists(st.integers(0, 3), max_size=40)


@given(Ids, Ids)
def test_common_prefix_is_what_a_loop_counts(a: list[int], b: list[int]) -> None:
    count = 0
    while count < min(len(a), len(b)) and a[count] == b[count]:
        count += 1
    assert common_prefix(a, b) == count


def test_a_correction_costs_only_what_differs() -> None:
    table = SlotTable(1)
    table.take(b"s", []).ids = [1, 2, 3, 4]
    assert table.valid(b"s", [1, 2, 9, 4]) == 2
    assert table.valid(b"other", [1, 2]) == 0


def test_the_least_recently_used_session_is_evicted_outside_the_pass() -> None:
    table = SlotTable(2)
    first, second = table.take(b"a", []), table.take(b"b", [])
    second.ids = [1]
    table.take(b"a", [])
    third = table.take(b"c", {b"c"})
    assert third.row == second.row
    assert third.ids == []
    assert table.valid(b"b", [1]) == 0
    fourth = table.take(b"d", {b"a", b"d"})
    assert fourth.row == third.row
    assert first.row != fourth.row


def test_more_sessions_in_a_pass_than_slots_is_refused() -> None:
    table = SlotTable(1)
    table.take(b"a", [])
    with pytest.raises(RuntimeError):
        table.take(b"b", {b"a", b"b"})


def test_a_released_slot_is_free_again() -> None:
    table = SlotTable(1)
    row = table.take(b"a", []).row
    table.release(b"a")
    table.release(b"a")
    assert len(table) == 0
    assert table.take(b"b", {b"b"}).row == row
