"""Which ids need not be fed again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verifier.slots import SHARED_TOKENS, Place, SlotTable, common_prefix

TEXT = list(range(100, 100 + 2 * SHARED_TOKENS))
Ids = st.lists(st.integers(0, 3), max_size=40)


@given(Ids, Ids)
def test_common_prefix_is_what_a_loop_counts(a: list[int], b: list[int]) -> None:
    count = 0
    while count < min(len(a), len(b)) and a[count] == b[count]:
        count += 1
    assert common_prefix(a, b) == count


def held(table: SlotTable, session: bytes, ids: list[int], tenant: str = "") -> Place:
    """The session's place, once a pass has fed all of ``ids``."""
    place = table.place(session, ids, tenant, {session})
    place.slot.ids = ids
    return place


def test_a_correction_costs_only_what_differs() -> None:
    table = SlotTable(1)
    held(table, b"s", [1, 2, 3, 4])
    assert table.valid(b"s", [1, 2, 9, 4]) == 2
    assert table.valid(b"other", [1, 2]) == 0


def test_the_least_recently_used_session_is_evicted_outside_the_pass() -> None:
    table = SlotTable(2)
    first, second = held(table, b"a", []), held(table, b"b", [1])
    held(table, b"a", [])
    third = table.place(b"c", [], "", {b"c"})
    assert third.slot.row == second.slot.row
    assert third.slot.ids == []
    assert table.valid(b"b", [1]) == 0
    fourth = table.place(b"d", [], "", {b"a", b"d"})
    assert fourth.slot.row == third.slot.row
    assert first.slot.row != fourth.slot.row


def test_more_sessions_in_a_pass_than_slots_is_refused() -> None:
    table = SlotTable(1)
    table.place(b"a", [], "", {b"a"})
    with pytest.raises(RuntimeError):
        table.place(b"b", [], "", {b"a", b"b"})


@pytest.mark.parametrize("end", [SlotTable.release, SlotTable.drop])
def test_a_slot_that_is_given_back_is_free_again(end: Callable[[SlotTable, bytes], None]) -> None:
    table = SlotTable(1)
    row = held(table, b"a", TEXT, "t").slot.row
    end(table, b"a")
    end(table, b"a")
    assert len(table) == 0
    assert table.place(b"b", [], "", {b"b"}).slot.row == row


def test_a_beginning_that_another_session_of_the_tenant_holds_is_copied() -> None:
    table = SlotTable(3)
    source = held(table, b"a", [*TEXT, 1], "t").slot.row
    longer = held(table, b"b", [*TEXT, 2, 3], "t")
    assert (longer.valid, longer.source) == (len(TEXT), source)
    assert table.valid(b"c", [*TEXT, 2, 3, 4], "t") == len(TEXT) + 2
    assert held(table, b"c", [*TEXT, 2, 3, 4], "t").source == longer.slot.row


@pytest.mark.parametrize("tenant", ["other", ""])
def test_nothing_is_shared_with_another_tenant(tenant: str) -> None:
    table = SlotTable(3)
    held(table, b"a", TEXT, "t")
    held(table, b"mine", TEXT, "")
    assert table.valid(b"b", TEXT, tenant) == 0
    place = table.place(b"b", TEXT, tenant, {b"b"})
    assert (place.valid, place.source, place.slot.ids) == (0, None, [])


def test_a_short_beginning_is_not_worth_a_copy() -> None:
    table = SlotTable(2)
    held(table, b"a", TEXT, "t")
    assert table.valid(b"b", [*TEXT[: SHARED_TOKENS - 1], 99], "t") == 0


def test_an_ended_session_s_slot_is_a_source_until_it_is_needed() -> None:
    table = SlotTable(2)
    row = held(table, b"a", TEXT, "t").slot.row
    held(table, b"x", [7], "u")
    table.release(b"a")
    table.release(b"x")
    copied = held(table, b"b", [*TEXT, 1], "t")
    assert (copied.valid, copied.source) == (len(TEXT), row)
    adopted = held(table, b"c", [*TEXT, 2], "t")
    assert (adopted.slot.row, adopted.valid, adopted.source) == (row, len(TEXT), None)
    assert len(table) == 2


def test_what_a_failed_pass_left_is_no_source() -> None:
    table = SlotTable(2)
    held(table, b"a", TEXT, "t")
    table.drop(b"a")
    assert table.valid(b"b", TEXT, "t") == 0


@given(
    st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(0, 1), max_size=4), st.sampled_from(["t", "u"]), st.booleans()))
)
def test_a_place_never_claims_ids_that_no_row_holds(steps: list[tuple[int, list[int], str, bool]]) -> None:
    """A cache is simulated: each row holds what was copied and fed, and each place must find its claim there."""
    table = SlotTable(3)
    rows: dict[int, list[int]] = {row: [] for row in range(3)}
    owners = dict.fromkeys(range(3), "")
    for number, tail, tenant, ends in steps:
        session, ids = bytes([number]) + tenant.encode(), [*TEXT[: SHARED_TOKENS + number % 3], *tail]
        claimed = table.valid(session, ids, tenant)
        place = table.place(session, ids, tenant, {session})
        assert place.valid == claimed
        row = place.slot.row
        source = row if place.source is None else place.source
        assert rows[source][: place.valid] == ids[: place.valid]
        assert not place.valid or owners[source] == tenant
        rows[row], owners[row], place.slot.ids = ids, tenant, ids
        if ends:
            table.release(session)
