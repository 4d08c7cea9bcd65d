"""The collector on a real Prometheus that scrapes counters of known rates; what it makes of answers that are none."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from http import HTTPStatus

import pytest

from services.common.probe_server import Page, ProbeServer
from services.policy.collector import CollectError, Collector, Prometheus, Series, assemble
from services.policy.controller import Controller, Plan
from services.policy.decision import Source
from services.policy.inputs import ClassInputs, Inputs, sane
from services.policy.queries import Fleet, Windows
from tests.policy.pages import DEVICES, edge_page, verifier_page
from tests.policy.prometheus import PrometheusServer, needed

SCRAPE_MS = 200
WINDOWS = Windows(slow=3.0, fast=2.0, scrape=SCRAPE_MS / 1000)
BUDGET = 0.05


def exporter(page: Callable[[float], str]) -> ProbeServer:
    began = time.monotonic() - 100.0

    def answer(_: str) -> Page:
        return HTTPStatus.OK, "text/plain; version=0.0.4", page(time.monotonic() - began).encode()

    return ProbeServer(answer)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    pages: dict[str, list[Callable[[float], str]]] = {
        "verifiers": [verifier_page, verifier_page, lambda _: "sluice_partitions 0\nsluice_engine_busy_seconds_total 0\n"],
        "edges": [partial(edge_page, name) for name in DEVICES],
    }
    exporters = {job: [exporter(page) for page in made] for job, made in pages.items()}
    jobs = {job: [f"127.0.0.1:{e.start('127.0.0.1', 0)}" for e in made] for job, made in exporters.items()}
    try:
        with needed(), PrometheusServer(tmp_path_factory.mktemp("prometheus"), jobs, SCRAPE_MS) as server:
            yield server
    finally:
        for one in itertools.chain(*exporters.values()):
            one.close()


@pytest.fixture
async def source(prometheus: PrometheusServer) -> AsyncIterator[Prometheus]:
    client = Prometheus(prometheus.url, 5.0)
    yield client
    await client.close()


EXPECTED = {
    "devices": 3.0,
    "devices_mean": 3.0,
    "tokens_per_second": 100.0,
    "drafted_per_second": 110.0,
    "rounds_per_second": 20.0,
    "draft_seconds": 0.04,
    "round_trip_seconds": 0.1,
    "round_trip_p95_seconds": 0.19,
    "queue_seconds": 0.01,
    "verify_seconds": 0.04,
    "drafting_joules_per_second": 50.0,
    "asking_joules_per_second": 2.0,
    "damage": 0.07,
    "damage_mean": 0.07,
    "gamma_bound": 0.9,
}
POOL = {"utilisation": 0.5, "watts": 400.0, "verifiers": 2.0, "verifiers_mean": 2.0, "verdicts_per_second": 40.0}
SCORES = {"drafted": [80.0, 30.0], "audit": [7.0, 0.0], "judged": [0.0, 25.0], "refused": [0.0, 10.0]}


def differing(inputs: Inputs) -> list[str]:
    """Names of what is missing, or further than 15 % from what the exporters count."""
    phone = inputs.classes.get("phone", ClassInputs())
    read = {**{n: r.value for n, r in phone.readings.items()}, **{n: r.value for n, r in inputs.pool.items()}}
    out = [n for n, v in {**EXPECTED, **POOL}.items() if read.get(n) != pytest.approx(v, rel=0.15)]
    for name, row in SCORES.items():
        if phone.scores is None or getattr(phone.scores, name) != pytest.approx(row, rel=0.15):
            out.append(name)
    return out


async def test_every_input_comes_with_its_value_and_age(source: Prometheus) -> None:
    """Once the windows are full; on a busy machine scrapes come late and rates are off for a while."""
    collector = Collector(source, WINDOWS, Fleet('job="edges"', 'job="verifiers"'), BUDGET)
    end = time.monotonic() + 60.0
    inputs = await collector.collect(50.0)
    while differing(inputs) and time.monotonic() < end:
        await asyncio.sleep(SCRAPE_MS / 1000)
        inputs = await collector.collect(50.0)
    assert differing(inputs) == []
    assert set(inputs.classes) == set(DEVICES)
    assert inputs.left_out == {}
    phone = inputs.classes["phone"]
    assert phone.scores is not None
    assert phone.scores.usable
    assert phone.scores.edges.tolist() == [0.0, 0.5, 1.0]
    assert 0.0 <= phone.readings["devices"].age_seconds < 10.0
    controller = Controller(Plan(), ())
    controller.observe(inputs)
    assert {name: d.source for name, d in controller.decide(50.0).items()} == dict.fromkeys(DEVICES, Source.CONTROL)


async def test_a_query_that_is_wrong_is_refused_with_a_reason(source: Prometheus) -> None:
    with pytest.raises(CollectError, match="400") as caught:
        await source.query("rate(")
    assert caught.value.cause == "refused"


async def test_no_prometheus_is_told_as_such() -> None:
    away = Prometheus("http://127.0.0.1:1", 1.0)
    with pytest.raises(CollectError) as caught:
        await away.query("up")
    assert caught.value.cause == "unreachable"
    await away.close()


def test_no_answers_are_no_inputs_and_nan_is_none() -> None:
    kinds = {("pool", "utilisation"): [Series({}, float("nan"))], ("pool", "verifiers"): []}
    found = {
        **kinds,
        ("class", "devices"): [Series({"device_class": "a"}, float("nan")), Series({}, 1.0)],
        ("age", "class"): [],
        ("age", "pool"): [],
        **{("score", n): [] for n in ("drafted", "audited", "audit", "judged", "refused")},
    }
    inputs = assemble(1.0, found)
    assert sane(inputs.pool, 1e9) == {}
    assert set(inputs.classes) == {"a"}
    assert sane(inputs.classes["a"].readings, 1e9) == {}
    assert inputs.classes["a"].scores is None


async def test_another_server_than_prometheus_is_told() -> None:
    server = ProbeServer(lambda _: (HTTPStatus.OK, "text/html", b"<html>"))
    port = server.start("127.0.0.1", 0)
    source = Prometheus(f"http://127.0.0.1:{port}", 2.0)
    try:
        with pytest.raises(CollectError, match="cannot be read"):
            await source.query("up")
    finally:
        await source.close()
        server.close()
