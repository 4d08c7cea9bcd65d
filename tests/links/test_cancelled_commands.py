"""A command that is cancelled must take its connection with it, else the next one gets its answer (CVE-2023-28858)."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from redis.asyncio import Redis

from services.common.redis_client import connect


async def test_after_a_cancelled_command_answers_belong_to_their_questions(url: str, other: Redis) -> None:
    client = connect(url, connections=1, timeout_seconds=4.0)  # one connection: the next command must use it, or a new one
    try:
        for n in range(20):
            await client.set(f"key{n}", n)
            waiting = asyncio.ensure_future(client.execute_command("BLPOP", "nothing", 2))
            await asyncio.sleep(0.01)
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting
            await other.rpush("nothing", "an answer to the cancelled question")
            assert await client.get(f"key{n}") == b"%d" % n
            await other.delete("nothing")
    finally:
        await client.aclose()


async def test_many_cancelled_at_any_moment(url: str) -> None:
    client = connect(url, connections=4, timeout_seconds=4.0)
    try:
        for n in range(200):
            await client.set(f"k{n}", f"v{n}")

        async def get(n: int) -> None:
            assert await client.get(f"k{n}") == b"v%d" % n

        for start in range(0, 200, 20):
            tasks = [asyncio.create_task(get(n)) for n in range(start, start + 20)]
            await asyncio.sleep(0)
            for task in tasks[:: 1 + start // 20 % 3]:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                assert outcome is None or isinstance(outcome, asyncio.CancelledError)
        for n in range(200):
            await get(n)
    finally:
        await client.aclose()
