"""What the wire tests stand on: a real Valkey, a real Redis Cluster, the embedded broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import structlog

from services.common.redis_client import RedisLink, connect
from tests.verifier.conftest import bootstrap, broker, module_broker, redis_url  # noqa: F401 - fixtures
from tests.wire.cluster import RedisCluster
from tests.wire.pool import Device, Verifier


@pytest.fixture(autouse=True)
def _own_log() -> None:
    """The `sluice` command, run by an earlier test, has set up a log of its own on a stream that is gone."""
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of one of its nodes."""
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster.url


@pytest.fixture(params=["server", "cluster"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    cluster = request.param == "cluster"
    url = request.getfixturevalue("redis_cluster" if cluster else "redis_url")
    client = connect(RedisLink(url, cluster=cluster), connections=8, timeout_seconds=2.0)
    yield client
    await client.aclose()


@pytest.fixture
async def a(client: Any) -> AsyncIterator[Verifier]:
    async with Verifier(client) as verifier:
        yield verifier


@pytest.fixture
async def b(client: Any) -> AsyncIterator[Verifier]:
    async with Verifier(client) as verifier:
        yield verifier


@pytest.fixture
def device(client: Any) -> Device:
    return Device(client)
