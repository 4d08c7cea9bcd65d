"""pytest fixtures for Apache Kafka, usable from any test.

``kafka``: one plain node for the whole run, or the cluster behind ``KAFKA_BOOTSTRAP``; others use it too, so use topics and
groups of your own. ``new_kafka``: a factory of nodes for one test, to be stopped, killed and set up at will. Where Apache Kafka
cannot be had the tests are skipped with the reason; with ``CI=true`` they fail.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.cluster.jars import Unavailable, kafka_jars
from tests.cluster.kafka import ApacheKafka


class Cluster(Protocol):
    @property
    def bootstrap(self) -> str: ...


class GivenCluster:
    """A cluster that somebody else runs."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap


NewKafka = Callable[..., ApacheKafka]


@pytest.fixture(scope="session")
def apache_kafka() -> None:
    """Skips the test (fails it with ``CI=true``) where no Apache Kafka can be started."""
    try:
        kafka_jars()
    except Unavailable as reason:
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"Apache Kafka is needed with CI=true: {reason}")
        pytest.skip(f"Apache Kafka cannot be had: {reason}")


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    given = os.environ.get("KAFKA_BOOTSTRAP", "").strip()
    if given:
        yield GivenCluster(given)
        return
    request.getfixturevalue("apache_kafka")
    node = ApacheKafka(tmp_path_factory.mktemp("kafka"))
    try:
        yield node.start()
    finally:
        node.close()


@pytest.fixture
def new_kafka(apache_kafka: None, tmp_path: Path) -> Iterator[NewKafka]:
    """``new_kafka(secure=False, **broker_settings)`` gives a started ``ApacheKafka``."""
    nodes: list[ApacheKafka] = []

    def start(secure: bool = False, **broker_settings: object) -> ApacheKafka:
        nodes.append(ApacheKafka(tmp_path / f"kafka{len(nodes)}", secure, "127.0.0.1", **broker_settings))
        return nodes[-1].start()

    try:
        yield start
    finally:
        for node in nodes:
            node.close()
