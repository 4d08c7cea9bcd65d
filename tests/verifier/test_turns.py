"""A full partition beside almost empty ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka import TopicPartition

from services.verifier.turns import MAX_RECORDS, Turns

PARTITIONS = [TopicPartition("t", n) for n in range(4)]


class Buffered:
    """Hands out what it holds as aiokafka does: of the first partition that has any."""

    def __init__(self, held: Mapping[int, int]) -> None:
        self.held = {TopicPartition("t", p): [f"{p}-{n}" for n in range(count)] for p, count in held.items()}
        self.polls = 0

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self.held)

    async def getmany(self, *partitions: TopicPartition, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Any]]:
        self.polls += 1
        for tp in partitions or self.held:
            if self.held[tp]:
                taken, self.held[tp] = self.held[tp][:max_records], self.held[tp][max_records:]
                return {tp: taken}
        return {}


async def test_a_full_partition_does_not_starve_the_others() -> None:
    consumer = Buffered({0: 1000, 1: 1, 2: 0, 3: 2})
    read: list[Any] = await Turns().read(consumer, 16)
    assert {"1-0", "3-0", "3-1"} <= set(read)
    assert len(read) <= 16


@pytest.mark.parametrize("room", [1, 2, 3])
async def test_with_little_room_each_has_its_turn(room: int) -> None:
    consumer, turns = Buffered(dict.fromkeys(range(4), 100)), Turns()
    read: list[Any] = []
    for _ in range(8):
        got = await turns.read(consumer, room)
        assert 1 <= len(got) <= room
        read += got
    assert {str(r)[0] for r in read} == {"0", "1", "2", "3"}


async def test_it_polls_also_without_room_and_without_partitions() -> None:
    paused = Buffered({0: 0})  # paused partitions hand out nothing
    assert await Turns().read(paused, 0) == []
    assert paused.polls == 1
    nothing = Buffered({})
    assert await Turns().read(nothing, 16) == []
    assert nothing.polls == 1


async def test_one_go_is_bounded() -> None:
    assert len(await Turns().read(Buffered({0: 1000}), 1000)) <= MAX_RECORDS
