"""The collector on a real Prometheus that scrapes counters of known rates, and what it makes of answers that are none."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from http import HTTPStatus

import pytest

from services.common.probe_server import Page, ProbeServer
from services.policy.collector import CollectError, Collector, Prometheus, Series, assemble
from services.policy.controller import Controller, Plan
from services.policy.decision import Source
from services.policy.inputs import ClassInputs, Inputs, sane
from services.policy.queries import Windows
from tests.policy.prometheus import PrometheusServer, Unavailable

SCRAPE_MS = 200
WINDOWS = Windows(slow=3.0, fast=2.0, scrape=SCRAPE_MS / 1000)
DEVICES = {"phone": 3.0, "board": 5.0}


def edge_page(device_class: str, seconds: float) -> str:
    """Counters of an edge worker after ``seconds``: 100 tokens a second in 20 rounds of 0.1 s."""
    n = seconds
    lines = [
        f'sluice_gamma_bound{{device_class="{device_class}"}} 0.9',
        f"sluice_sessions {DEVICES[device_class]}",
        f'sluice_tokens_total{{decision="skipped"}} {70 * n}',
        f'sluice_tokens_total{{decision="accepted"}} {30 * n}',
        f"sluice_rounds_total {20 * n}",
        f"sluice_draft_step_seconds_sum {4.4 * n}",
        f"sluice_draft_step_seconds_count {110 * n}",
        f"sluice_round_trip_seconds_sum {2 * n}",
        f"sluice_round_trip_seconds_count {20 * n}",
        f'sluice_round_trip_seconds_bucket{{le="0.1"}} {10 * n}',
        f'sluice_round_trip_seconds_bucket{{le="0.2"}} {20 * n}',
        f'sluice_round_trip_seconds_bucket{{le="+Inf"}} {20 * n}',
        f"sluice_round_queue_seconds_sum {0.2 * n}",
        f"sluice_round_queue_seconds_count {20 * n}",
        f"sluice_round_verify_seconds_sum {0.8 * n}",
        f"sluice_round_verify_seconds_count {20 * n}",
        f'sluice_energy_joules_total{{component="draft"}} {40 * n}',
        f'sluice_energy_joules_total{{component="wait"}} {10 * n}',
        f'sluice_energy_joules_total{{component="radio"}} {2 * n}',
        f'sluice_energy_joules_total{{component="idle"}} {1000 * n}',
        f'sluice_gate_score_bucket{{le="0.5"}} {80 * n}',
        f'sluice_gate_score_bucket{{le="1.0"}} {110 * n}',
        f'sluice_gate_score_bucket{{le="+Inf"}} {110 * n}',
        f'sluice_audited_score_tokens_total{{score="0.5"}} {70 * n}',
        f'sluice_audit_rejection_total{{score="0.5"}} {7 * n}',
        f'sluice_judged_score_tokens_total{{score="1"}} {25 * n}',
        f'sluice_refused_score_tokens_total{{score="1"}} {10 * n}',
    ]
    return "\n".join(lines) + "\n"


def verifier_page(seconds: float) -> str:
    return (
        f"sluice_partitions 2\nsluice_engine_busy_seconds_total {0.5 * seconds}\n"
        f'sluice_rounds_total{{status="ok"}} {999 * seconds}\n'  # another metric than the edges', under their name
        f'sluice_energy_joules_total{{component="verify"}} {150 * seconds}\n'
        f'sluice_energy_joules_total{{component="prefill"}} {20 * seconds}\n'
        f'sluice_energy_joules_total{{component="idle"}} {30 * seconds}\n'
    )


def exporter(page: Callable[[float], str]) -> ProbeServer:
    began = time.monotonic() - 100.0

    def answer(_: str) -> Page:
        return HTTPStatus.OK, "text/plain; version=0.0.4", page(time.monotonic() - began).encode()

    return ProbeServer(answer)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    pages: list[Callable[[float], str]] = [verifier_page, verifier_page]
    pages += [lambda s, name=name: edge_page(name, s) for name in DEVICES]  # type: ignore[misc]
    exporters = [exporter(page) for page in pages]
    targets = [f"127.0.0.1:{e.start('127.0.0.1', 0)}" for e in exporters]
    try:
        with PrometheusServer(tmp_path_factory.mktemp("prometheus"), targets, SCRAPE_MS) as server:
            yield server
    except Unavailable as reason:
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"Prometheus is needed with CI=true: {reason}")
        pytest.skip(f"Prometheus cannot be had: {reason}")
    finally:
        for one in exporters:
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
POOL = {"utilisation": 0.5, "watts": 400.0, "verifiers": 2.0, "verifiers_mean": 2.0}
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
    collector = Collector(source, WINDOWS)
    end = time.monotonic() + 60.0
    inputs = await collector.collect(50.0)
    while differing(inputs) and time.monotonic() < end:
        await asyncio.sleep(SCRAPE_MS / 1000)
        inputs = await collector.collect(50.0)
    assert differing(inputs) == []
    assert set(inputs.classes) == set(DEVICES)
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
