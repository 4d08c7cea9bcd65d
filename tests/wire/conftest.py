"""What the wire tests stand on: a real Valkey, a real Redis Cluster, the embedded broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from tests.verifier.conftest import bootstrap, broker, module_broker, redis_url  # noqa: F401 - fixtures
from tests.wire.cluster import RedisCluster


@pytest.fixture(autouse=True)
def _own_log() -> None:
    """The `sluice` command, run by an earlier test, has set up a log of its own on a stream that is gone."""
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of one of its nodes."""
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster.url
