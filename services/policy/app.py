"""Life cycle of the policy service: health first, then Redis and Prometheus; at the end the lease is given up."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket

import structlog

from services.common.lifecycle import stop_event
from services.common.outage import Link
from services.common.redis_client import TRANSIENT, connect
from services.common.settings import ConfigError
from services.common.telemetry import Telemetry
from services.common.tracing import tracer
from services.policy.collector import Collector, Prometheus
from services.policy.controller import Controller
from services.policy.journal import DecisionLog
from services.policy.loop import Loop
from services.policy.metrics import PolicyMetrics
from services.policy.publisher import Publisher
from services.policy.settings import PolicySettings

CONNECTIONS = 4
log = structlog.get_logger()


async def run(settings: PolicySettings) -> None:
    """Decide until SIGTERM or SIGINT. Raises ``ConfigError`` where settings cannot work."""
    stop = stop_event()
    journal = DecisionLog(settings.log_file, settings.log_file_bytes)
    name = secrets.token_hex(8)
    tracing = tracer(settings.otlp_endpoint, "policy", f"{socket.gethostname()}-{name}")
    client = connect(settings.redis_link, connections=CONNECTIONS, timeout_seconds=settings.redis_timeout_ms / 1000)
    telemetry = Telemetry(watchdog_seconds=settings.watchdog_seconds)
    telemetry.conditions.update(serving=True, redis=False)
    try:
        port = await telemetry.serve(settings.metrics_host, settings.metrics_port)
    except OSError as error:
        where = f"{settings.metrics_host}:{settings.metrics_port}"
        raise ConfigError(f"SLUICE_POLICY_METRICS_PORT: cannot listen on {where}: {error.strerror}") from error
    log.info("metrics and health", host=settings.metrics_host, port=port)
    source = Prometheus(
        settings.prometheus_url, settings.prometheus_timeout_seconds, settings.prometheus_token.get_secret_value()
    )
    publisher = Publisher(client, name, settings.times)
    metrics = PolicyMetrics(telemetry.registry)
    metrics.bounded(settings.plan.budgets)
    loop = Loop(
        Controller(settings.plan),
        Collector(source, settings.windows, settings.fleet, settings.damage_budget),
        client,
        publisher,
        journal,
        metrics,
        (Link("prometheus", telemetry, needed=False), Link("redis", telemetry)),
        tracer=tracing,
    )
    telemetry.health.watch("control loop", loop.stalled)
    telemetry.start_lag_probe()
    try:
        await _turns(loop, settings.decide_seconds, stop)
    finally:
        telemetry.conditions["serving"] = False
        with contextlib.suppress(*TRANSIENT):
            await publisher.release()
        with contextlib.suppress(*TRANSIENT):
            await client.aclose()
        await source.close()
        await asyncio.to_thread(tracing.close)
        await telemetry.close()
    log.info("stopped")


async def _turns(loop: Loop, seconds: float, stop: asyncio.Event) -> None:
    """One turn each ``seconds``, measured from begin to begin."""
    clock = asyncio.get_running_loop().time
    due = clock()
    while not stop.is_set():
        await loop.once()
        due = max(due + seconds, clock())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), max(0.0, due - clock()))
