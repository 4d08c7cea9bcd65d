"""The embedded broker and a real Valkey, as the services see them."""

from collections.abc import Iterator

import pytest

from tests.metrics.collector import Collector
from tests.verifier.conftest import bootstrap, broker, module_broker, redis_url  # noqa: F401 - fixtures


@pytest.fixture
def collector() -> Iterator[Collector]:
    one = Collector()
    yield one
    one.close()
