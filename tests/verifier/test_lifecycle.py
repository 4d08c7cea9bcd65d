"""Closing what may not answer, and waiting longer each time."""

from __future__ import annotations

import asyncio

from services.common.lifecycle import Backoff, settled


async def test_whatever_closing_does_it_is_settled() -> None:
    async def fine() -> int:
        return 3

    async def fails() -> None:
        raise OSError("gone")

    async def cancels() -> None:
        raise asyncio.CancelledError

    assert await settled(fine(), 1) is None
    assert isinstance(await settled(fails(), 1), OSError)
    assert isinstance(await settled(cancels(), 1), asyncio.CancelledError)
    assert isinstance(await settled(asyncio.sleep(60), 0.01), TimeoutError)


def test_each_wait_is_longer_up_to_the_longest() -> None:
    backoff = Backoff(first=1.0, longest=4.0)
    waits = [backoff.next() for _ in range(20)]
    assert 0.5 <= waits[0] <= 1.0 <= waits[1] <= 2.0 <= waits[2] <= 4.0
    assert all(2.0 <= w <= 4.0 for w in waits[2:])
    assert len(set(waits[2:])) > 1  # jitter
    backoff.reset()
    assert backoff.next() <= 1.0
