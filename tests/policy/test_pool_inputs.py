"""The pool as Prometheus shows it while KEDA adds verifiers: the load is each one's, and who cannot serve yet is none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.policy.collector import Collector, Prometheus
from services.policy.queries import Fleet, Windows
from tests.policy.backfill import PAST_SECONDS, BackfilledServer
from tests.policy.pages import edge_page, verifier_page
from tests.policy.prometheus import PrometheusServer, needed

JOINED = PAST_SECONDS - 6.0  # nearly the moment of the first collection


def joining(seconds: float) -> str:
    return verifier_page(seconds - JOINED) if seconds >= JOINED else ""


def loading(seconds: float) -> str:
    return verifier_page(0.0).replace("sluice_partitions 2", "sluice_partitions 0")


def rebalancing(seconds: float) -> str:
    """Without partitions at every second scrape."""
    page = verifier_page(seconds)
    return page if round(seconds / 5.0) % 2 else page.replace("sluice_partitions 2", "sluice_partitions 0")


@pytest.mark.parametrize(
    ("jobs", "verifiers", "utilisation"),
    [("old", 2.0, 0.5), ("old|loading", 2.0, 0.5), ("old|rebalancing", 3.0, 0.5), ("old|joining", 3.0, 0.5)],
)
async def test_the_load_is_that_of_each_verifier_that_serves(
    jobs: str, verifiers: float, utilisation: float, server: PrometheusServer
) -> None:
    source = Prometheus(server.url, 10.0)
    found = (await Collector(source, Windows(), Fleet('job="edges"', f'job=~"{jobs}"'), 0.05).collect(0.0)).pool
    await source.close()
    assert found["verifiers"].value == verifiers
    assert 2.0 <= found["verifiers_mean"].value <= verifiers
    assert found["utilisation"].value == pytest.approx(utilisation, rel=0.12), (
        "one that joined has not been there for all of it"
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    pages = {
        "old": [verifier_page, verifier_page],
        "joining": [joining],
        "loading": [loading],
        "rebalancing": [rebalancing],
        "edges": [lambda seconds: edge_page("phone", seconds)],
    }
    with needed(), BackfilledServer(tmp_path_factory.mktemp("pool"), pages, Windows().scrape) as made:
        yield made
