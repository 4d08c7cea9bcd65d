"""Health, metrics and loop lag over HTTP, as probes and Prometheus see them."""

from __future__ import annotations

import asyncio
import threading
import time

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge

from services.common.telemetry import LoopLag, Telemetry


async def test_health_metrics_and_lag() -> None:
    telemetry = Telemetry()
    telemetry.conditions.update(model=True, kafka=False)
    telemetry.health.reasons["kafka"] = "away"
    port = await telemetry.serve("127.0.0.1", 0)
    telemetry.start_lag_probe()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.get("/livez")).json() == {"alive": True, "causes": {}}
            unready = await client.get("/readyz")
            assert unready.status_code == 503
            assert unready.json() == {
                "ready": False,
                "conditions": {"model": True, "kafka": False},
                "reasons": {"kafka": "away"},
                "notes": {},
            }
            telemetry.conditions["kafka"] = True
            assert (await client.get("/readyz")).status_code == 200
            await asyncio.sleep(0.1)
            time.sleep(0.2)  # noqa: ASYNC251 - the loop is blocked on purpose
            await asyncio.sleep(0.05)
            lag = (await client.get("/lag")).json()
            assert 0.1 < lag["max"] < 1.0
            assert lag["count"] >= 3
            assert 'sluice_loop_lag_seconds_bucket{le="0.02"}' in (await client.get("/metrics")).text
            assert (await client.get("/nothing")).status_code == 404
    finally:
        await telemetry.close()


async def test_a_service_has_started_once_its_model_is_there_whatever_its_links_do() -> None:
    telemetry = Telemetry()
    port = await telemetry.serve("127.0.0.1", 0)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.get("/startz")).json() == {"started": True}, "one without a model"
            telemetry.conditions.update(model=False, kafka=False)
            assert (await client.get("/startz")).status_code == 503
            telemetry.conditions["model"] = True
            assert (await client.get("/startz")).status_code == 200
            assert (await client.get("/readyz")).status_code == 503
    finally:
        await telemetry.close()


async def test_metrics_are_packed_for_whoever_can_read_that_and_their_bytes_are_known() -> None:
    telemetry = Telemetry()
    Gauge("sluice_text", "many words " * 200, registry=telemetry.registry)
    port = await telemetry.serve("127.0.0.1", 0)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            packed, plain, refused = [
                await client.get("/metrics", headers={"Accept-Encoding": accepted})
                for accepted in ("deflate, gzip;q=0.8", "identity", "gzip;q=0")
            ]
            assert (await client.get("/livez")).headers.get("content-encoding") is None
    finally:
        await telemetry.close()
    assert packed.headers["content-encoding"] == "gzip"
    assert all("content-encoding" not in page.headers for page in (plain, refused))
    assert packed.text == plain.text == refused.text
    assert "# TYPE sluice_loop_lag_seconds histogram" in plain.text
    bodies = [int(page.headers["content-length"]) for page in (packed, plain, refused)]
    assert bodies[0] < bodies[1] / 2
    assert sum(bodies) < telemetry.scraped_bytes < sum(bodies) + 3 * 300, "headers included"


def test_quantiles_are_exact() -> None:
    lag = LoopLag(CollectorRegistry())
    for n in range(1, 1001):
        lag.observe(n / 1000)
    summary = lag.summary()
    assert summary["count"] == 1000
    assert abs(summary["p99"] - 0.990) < 0.0015
    assert abs(summary["p50"] - 0.500) < 0.0015
    assert summary["max"] == 1.0


async def test_a_silent_client_does_not_hold_the_server() -> None:
    telemetry = Telemetry()
    port = await telemetry.serve("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"nonsense\r\n\r\n")
    await writer.drain()
    assert (await reader.read(100)).startswith(b"HTTP/1.1 404")
    writer.close()
    await telemetry.close()


async def test_livez_says_which_part_is_stuck_and_recovers() -> None:
    telemetry = Telemetry(watchdog_seconds=0.2)
    seconds = 0.0
    telemetry.health.watch("engine", lambda: seconds, lambda: "a pass")
    port = await telemetry.serve("127.0.0.1", 0)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.get("/livez")).status_code == 200
            seconds = 7.0
            answer = await client.get("/livez")
            assert answer.status_code == 503
            said = "no progress for 7 s although there is work: a pass"
            assert answer.json() == {"alive": False, "causes": {"engine": said}}
            seconds = 0.0
            assert (await client.get("/livez")).status_code == 200
    finally:
        await telemetry.close()


async def test_a_stuck_event_loop_is_told_while_it_is_stuck() -> None:
    """The answer comes from another thread; the loop itself could not give it."""
    telemetry = Telemetry(watchdog_seconds=0.2)
    port = await telemetry.serve("127.0.0.1", 0)
    telemetry.start_lag_probe()
    await asyncio.sleep(0.05)
    answers: list[httpx.Response] = []

    def ask() -> None:
        time.sleep(0.4)
        answers.append(httpx.get(f"http://127.0.0.1:{port}/livez", timeout=5))

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join()  # the loop is blocked on purpose
    try:
        assert answers[0].status_code == 503
        assert "threading.py" in answers[0].json()["causes"]["event loop"]
        await asyncio.sleep(0.05)
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{port}/livez")).status_code == 200
    finally:
        await telemetry.close()


async def test_a_taken_port_is_told() -> None:
    first, second = Telemetry(), Telemetry()
    port = await first.serve("127.0.0.1", 0)
    with pytest.raises(OSError, match="in use"):
        await second.serve("127.0.0.1", port)
    await second.close()
    await first.close()
