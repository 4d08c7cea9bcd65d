"""Embedded broker and Redis, and a Prometheus beside them, each a process of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from services.cli.errors import CommandError
from services.cli.local.child import Child
from services.cli.local.nursery import Nursery
from services.cli.local.prometheus_server import PrometheusServer
from services.cli.local.redis_server import RedisServer
from services.common import keys

START_SECONDS = 20.0
BROKER, REDIS, PROMETHEUS = "broker", "redis", "prometheus"


def start_broker(nursery: Nursery, rtt_ms: int = 0) -> str:
    """``host:port``. It keeps nothing: topics and offsets end with its process, and a new one has another port."""
    nursery.progress("starting the broker")
    address = nursery.folder / "broker.address"
    address.unlink(missing_ok=True)
    command = [sys.executable, "-m", "services.cli.local.broker", "--address-file", str(address)]
    command += ["--topic", keys.CANDIDATES_TOPIC, "--topic", keys.DEAD_LETTER_TOPIC, "--rtt-ms", str(rtt_ms)]
    child = nursery.start(BROKER, command)
    _wait(child, lambda: address.exists())
    return address.read_text().strip()


def start_redis(nursery: Nursery, server: RedisServer) -> None:
    """Empty; at the same address after each start."""
    nursery.progress("starting Redis")
    child = nursery.start(REDIS, server.command())
    _wait(child, server.answers)


def start_prometheus(nursery: Nursery, server: PrometheusServer) -> None:
    """With what it had recorded before; at the same address after each start."""
    nursery.progress("starting Prometheus")
    child = nursery.start(PROMETHEUS, server.command())
    _wait(child, server.answers)


def _wait(child: Child, ready: Callable[[], bool]) -> None:
    end = time.monotonic() + START_SECONDS
    while not ready():
        if child.exit_status() is not None:
            raise CommandError(f"the embedded part did not start: {child.describe_death()}")
        if time.monotonic() > end:
            raise CommandError(f"{child.name} was not ready after {START_SECONDS:.0f} s")
        time.sleep(0.01)
