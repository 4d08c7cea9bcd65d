"""The reader of verdicts on a real server: nothing is lost and nothing comes twice, whatever happens to the stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from services.common.redis_client import Client, connect
from services.edge_worker.replies import ReplyReader
from tests.links.conftest import until

STREAM = "sluice:{edge}:replies"


class Desk:
    """A running reader and what it has handed over."""

    def __init__(self, client: Client) -> None:
        self.got: list[bytes] = []
        self.reader = ReplyReader(client, STREAM, self.got.append, lambda: True)


@pytest_asyncio.fixture
async def desk(url: str) -> AsyncIterator[Desk]:
    client = connect(url, connections=2, timeout_seconds=4.0)
    desk = Desk(client)
    reading = asyncio.create_task(desk.reader.run())
    await until(lambda: desk.reader.up)
    yield desk
    desk.reader.close()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await client.aclose()


async def add(other: Redis, value: bytes, entry: str = "*") -> None:
    await other.xadd(STREAM, {b"v": value}, id=entry)


async def cut_off(other: Redis) -> None:
    """As a network does: every connection but this one ends."""
    await other.client_kill_filter(_type="normal", skipme=True)


async def test_what_came_while_it_was_cut_off_comes_once(desk: Desk, other: Redis) -> None:
    await add(other, b"a")
    await until(lambda: desk.got == [b"a"])
    for n in range(20):
        if n % 5 == 0:
            await cut_off(other)
        await add(other, b"%d" % n)
    await until(lambda: len(desk.got) == 21)
    assert desk.got == [b"a", *(b"%d" % n for n in range(20))]


async def test_what_was_there_before_it_started_is_not_its_business(url: str, other: Redis) -> None:
    await add(other, b"old")
    client = connect(url, connections=2, timeout_seconds=4.0)
    desk = Desk(client)
    reading = asyncio.create_task(desk.reader.run())
    await until(lambda: desk.reader.up)
    await add(other, b"new")
    await until(lambda: bool(desk.got))
    assert desk.got == [b"new"]
    desk.reader.close()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await client.aclose()


@pytest.mark.parametrize("cut", [True, False], ids=["and it was cut off", "unnoticed"])
async def test_after_a_fail_over_that_lost_entries_it_reads_what_is_new(desk: Desk, other: Redis, cut: bool) -> None:
    """The promoted replica lacks the last two; it goes on with ids that are lower than what has been read."""
    for n in (100, 101, 102, 103):
        await add(other, b"%d" % n, f"9999999999{n}-0")
    await until(lambda: len(desk.got) == 4)
    async with other.pipeline(transaction=True) as pipe:
        pipe.delete(STREAM)
        for n in (100, 101):
            pipe.xadd(STREAM, {b"v": b"%d" % n}, id=f"9999999999{n}-0")
        pipe.xadd(STREAM, {b"v": b"new"}, id="9999999999101-7")
        await pipe.execute()
    if cut:
        await cut_off(other)
    await until(lambda: len(desk.got) > 4)
    await add(other, b"newer", "9999999999102-1")
    await until(lambda: b"newer" in desk.got)
    assert desk.got == [b"100", b"101", b"102", b"103", b"new", b"newer"]


async def test_after_a_restart_without_data_it_reads_from_the_beginning(desk: Desk, other: Redis) -> None:
    await add(other, b"a", "9999999999100-0")
    await until(lambda: desk.got == [b"a"])
    await other.flushall()
    await add(other, b"b", "5-0")  # by a clock that is behind
    await add(other, b"c", "6-0")
    await until(lambda: desk.got == [b"a", b"b", b"c"])


async def test_entries_that_were_trimmed_hold_nothing_up(desk: Desk, other: Redis) -> None:
    await add(other, b"a")
    await until(lambda: desk.got == [b"a"])
    async with other.pipeline(transaction=True) as pipe:
        for _ in range(50):
            pipe.xadd(STREAM, {b"v": b"lost"})
        pipe.xtrim(STREAM, maxlen=0)
        await pipe.execute()
    await add(other, b"b")
    await until(lambda: desk.got[-1] == b"b")


async def test_a_stream_that_is_no_stream_is_survived(desk: Desk, other: Redis) -> None:
    await other.set(STREAM, b"what is this")
    await cut_off(other)
    await until(lambda: not desk.reader.up)
    await other.delete(STREAM)
    await until(lambda: desk.reader.up)
    await add(other, b"a")
    await until(lambda: desk.got == [b"a"])
