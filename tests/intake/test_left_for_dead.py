"""What aiokafka does not recover from by itself (its issues 720, 764 and 1187): the consumer is given up and built anew."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from aiokafka import AIOKafkaConsumer
from confluent_kafka.admin import AdminClient

from services.verifier import app, consumer
from services.verifier.settings import VerifierSettings
from tests.intake.conftest import SESSION_MS, Pool

BASE = [1, 2, 3]


def settings(pool: Pool, port: int) -> VerifierSettings:
    return VerifierSettings(
        model="synthetic",
        kafka_bootstrap=pool.node.bootstrap,
        redis_url=pool.redis_url,
        group_id=pool.group,
        session_timeout_ms=SESSION_MS,
        heartbeat_ms=300,
        watchdog_seconds=4.0,
        drain_seconds=2.0,
        metrics_port=port,
    )


@asynccontextmanager
async def running(pool: Pool, port: int) -> AsyncIterator[None]:
    """The verifier in this process, until SIGTERM."""
    service = asyncio.create_task(app.run(settings(pool, port)))
    try:
        yield
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await service


@pytest.fixture
def consumers(monkeypatch: pytest.MonkeyPatch) -> list[AIOKafkaConsumer]:
    """Every consumer that the verifier builds."""
    built: list[AIOKafkaConsumer] = []
    build = consumer.build

    def watched(*arguments: object) -> AIOKafkaConsumer:
        built.append(build(*arguments))  # type: ignore[arg-type]
        return built[-1]

    monkeypatch.setattr(consumer, "build", watched)
    return built


Break = Callable[[AIOKafkaConsumer, asyncio.Event], None]  # sets the event when it has taken effect


def hang(client: AIOKafkaConsumer, done: asyncio.Event) -> None:
    """Its poll never returns."""

    async def never(*_: object, **__: object) -> None:
        done.set()
        await asyncio.Event().wait()

    client.getmany = never


def cancel_coordination(client: AIOKafkaConsumer, done: asyncio.Event) -> None:
    """The task that keeps it in the group ends."""
    task = client._coordinator._coordination_task
    task.cancel()
    task.add_done_callback(lambda _: done.set())


def lose_the_way_back(client: AIOKafkaConsumer, done: asyncio.Event) -> None:
    """It gives its partitions up and never joins again, although it goes on with its heartbeats."""

    async def never(*_: object) -> None:
        done.set()
        await asyncio.Event().wait()

    client._coordinator._do_rejoin_group = never
    client._coordinator.request_rejoin()


@pytest.mark.parametrize("break_it", [hang, cancel_coordination, lose_the_way_back])
async def test_a_consumer_that_is_left_for_dead_is_built_anew(
    pool: Pool,
    consumers: list[AIOKafkaConsumer],
    break_it: Break,
    monkeypatch: pytest.MonkeyPatch,
    unused_tcp_port: int,
) -> None:
    monkeypatch.setattr(consumer, "rebalance_seconds", lambda _: 3.0)
    async with running(pool, unused_tcp_port), pool.device() as device:
        first = device.opening(BASE, secrets.token_bytes(16))
        await device.publish(first)
        await device.publish(device.batch(first.session, BASE, []))
        await device.verdict()
        broken = asyncio.Event()
        break_it(consumers[0], broken)
        await broken.wait()
        second = device.opening(BASE, secrets.token_bytes(16))
        await device.publish(second)
        await device.publish(device.batch(second.session, BASE, []))
        while (await device.verdict(20)).session != second.session:
            pass  # the first one's verdict again, where its offset was not committed any more
        assert len(consumers) == 2
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{unused_tcp_port}") as client:
            assert "sluice_consumers_rebuilt_total 1.0" in (await client.get("/metrics")).text
            assert (await client.get("/livez")).status_code == 200
        assert await asyncio.to_thread(members, pool) == 1, "the one that was given up still holds partitions"
    mine = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not mine, "a task of a consumer that was given up is still alive"


def members(pool: Pool) -> int:
    admin = AdminClient({"bootstrap.servers": pool.node.bootstrap})
    return len(admin.describe_consumer_groups([pool.group])[pool.group].result().members)
