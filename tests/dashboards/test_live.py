"""Every query of every panel, at a live Prometheus that scrapes the real services: an empty answer is a failure."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from services.cli.local.debian import Unavailable
from services.cli.local.prometheus_server import program
from services.common.catalogue import verifier
from tests.dashboards.draw import Shot, draw
from tests.dashboards.files import DASHBOARDS, Asked, filled, panels, queries, variables
from tests.dashboards.selectors import selectors
from tests.dashboards.site import DEVICE_CLASS, NAMESPACE, Prometheus, Site

PATIENCE_SECONDS = 120.0
WINDOW, WHOLE = "10s", "2m"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    try:
        program()
    except Unavailable as reason:
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"Prometheus is needed with CI=true: {reason}")
        pytest.skip(f"Prometheus cannot be had: {reason}")
    with Site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture(scope="module")
def sights(site: Site) -> Iterator[dict[str, Prometheus]]:
    """By the namespace that they know."""
    found = {namespace: Prometheus(url) for url, namespace in site.urls.items()}
    yield found
    for one in found.values():
        one.close()


def wait(left: Callable[[], list[Any]]) -> list[Any]:
    """What is still left when nothing is, or patience is."""
    end = time.monotonic() + PATIENCE_SECONDS
    while found := left():
        if time.monotonic() > end:
            return found
        time.sleep(0.25)
    return []


def finite(series: list[dict[str, Any]]) -> bool:
    """A number at least: what is not a number is no answer."""
    return any(math.isfinite(float(value)) for one in series for _, value in one.get("values") or [one["value"]])


@pytest.mark.timeout(300)
def test_every_query_has_an_answer(site: Site, sights: dict[str, Prometheus]) -> None:
    """Also each series that it is made of, so that no zero hides a name or a value that nobody counts."""
    site.by_hand(2, 0.5)
    site.restart_a_verifier()
    letters = f"count({verifier.DEAD_LETTERS.series})"
    assert wait(lambda: [one for one in sights.values() if not finite(one.now(f"{letters} == 2"))]) == []
    site.hostile()
    site.by_hand(5, 0.7)
    begin = time.time() - 60.0
    asked = {(namespace, query) for namespace in sights for query in queries()}
    series = {(namespace, text) for namespace, query in asked for text in selectors(_filled(query, namespace))}

    def empty() -> list[Any]:
        for namespace, query in list(asked):
            expr = _filled(query, namespace)
            one = sights[namespace]
            if finite(one.now(expr) if query.instant else one.course(expr, begin, time.time(), 1.0)):
                asked.discard((namespace, query))
        for namespace, text in list(series):
            if sights[namespace].now(f"last_over_time({text}[{WHOLE}])"):
                series.discard((namespace, text))
        return [*asked, *series]

    assert wait(empty) == []


def _filled(query: Asked, namespace: str) -> str:
    return filled(query.expr, namespace or ".*", window=WINDOW, whole=WHOLE)


def test_variables_offer_what_there_is(sights: dict[str, Prometheus]) -> None:
    for namespace, one in sights.items():
        for name, selector, label in variables():
            found = one.label_values(filled(selector, namespace or ".*"), label)
            match name:
                case "namespace":
                    assert found == ([namespace] if namespace else [])
                case "device_class":
                    assert found == [DEVICE_CLASS]
                case _:
                    assert len(found) == 2, "both verifiers"


def test_another_namespace_shows_nothing(sights: dict[str, Prometheus]) -> None:
    """Panels are of the chosen one alone. Nothing to be seen of the other is what this test wants, for queries that have an
    answer otherwise."""
    one = sights[NAMESPACE]
    assert [
        query.where for query in queries() if finite(one.now(filled(query.expr, "other", window=WINDOW, whole=WHOLE)))
    ] == []


def test_alerts_say_what_happened(sights: dict[str, Prometheus]) -> None:
    firing = 'ALERTS{alertname="SluiceDeadLetters", alertstate="firing"}'
    assert wait(lambda: [one for one in sights.values() if not one.now(firing)]) == []
    for namespace, one in sights.items():
        assert {alert["metric"].get("namespace", "") for alert in one.now(firing)} == {namespace}, "each of its own"


@pytest.mark.parametrize("name", ["sluice-gate", "sluice-policy"])
def test_they_can_be_looked_at(name: str, sights: dict[str, Prometheus], tmp_path: Path) -> None:
    """Between them they have every kind of panel."""
    path = tmp_path / "drawn.png"
    draw(DASHBOARDS[name], Shot(sights[""], time.time() - 60.0, time.time()), path)
    kinds = {panel["type"] for one in ("sluice-gate", "sluice-policy") for panel in panels(DASHBOARDS[one])}
    assert kinds == {panel["type"] for one in DASHBOARDS.values() for panel in panels(one)} - {"text"}
    pixels = imread(path)
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels(DASHBOARDS[name]))
    assert pixels.shape[0] > 20 * rows
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 50, "lines and letters, no empty sheet"
