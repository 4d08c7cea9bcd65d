"""A place for the scenarios: one broker of each kind and one Redis for all of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.brokers import Apache, Broker, Embedded
from tests.chaos.children import Children
from tests.chaos.redis_node import RedisNode
from tests.chaos.site import Site
from tests.cluster.jars import Unavailable


def _say(line: str) -> None:
    print(f"  {line}")  # noqa: T201 - figures, shown with -s and where a test fails


@pytest.fixture(scope="session")
def apache_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Skips (with ``CI=true``: fails) where Apache Kafka cannot be had."""
    folder = tmp_path_factory.mktemp("chaos-apache")
    try:
        broker = Apache(folder / "kafka")
    except Unavailable as reason:
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"Apache Kafka is needed with CI=true: {reason}")
        pytest.skip(f"Apache Kafka cannot be had: {reason}")
    try:
        with Children(folder / "children") as children:
            yield _site(children, broker)
    finally:
        broker.close()


@pytest.fixture(scope="session")
def embedded_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Children(_folder(tmp_path_factory)) as children:
        yield _site(children, asyncio.run(Embedded(children).started()))


@pytest.fixture(params=["apache", "embedded"])
def site(request: pytest.FixtureRequest) -> Site:
    found: Site = request.getfixturevalue(f"{request.param}_site")
    return found


def _site(children: Children, broker: Broker) -> Site:
    return Site(children, broker, asyncio.run(RedisNode(children).start()), _say)


def _folder(factory: pytest.TempPathFactory) -> Path:
    return factory.mktemp("chaos-embedded") / "children"
