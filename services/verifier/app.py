"""Life cycle of a verifier: health first, then the model, then Redis and Kafka; and the same way back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from services.common.credentials import Keyring, parse_masters, parse_revoked
from services.common.energy.counter import JoulesCounter
from services.common.energy.profiles import Server
from services.common.energy.settings import accelerators
from services.common.lifecycle import Phases, stop_event
from services.common.outage import Link
from services.common.policy_reader import PolicyReader
from services.common.redis_client import TRANSIENT, connect
from services.common.settings import ConfigError
from services.common.telemetry import Telemetry
from services.common.tracing import Tracer, tracer
from services.verifier.budget import Budgets, Rate
from services.verifier.dead_letter import DeadLetters
from services.verifier.energy import COMPONENTS, PassEnergy
from services.verifier.fairness import Weights, parse_weights
from services.verifier.handler import RoundHandler
from services.verifier.intake import Intake
from services.verifier.metrics import VerifierMetrics
from services.verifier.offsets import Offsets
from services.verifier.pump import Pump
from services.verifier.replies import Replies
from services.verifier.scheduler import Limits, Scheduler
from services.verifier.sessions import Sessions
from services.verifier.settings import VerifierSettings
from services.verifier.slots import SlotTable
from services.verifier.store import ContextStore, Lifetimes
from services.verifier.thread import EngineThread, yield_to_event_loop

if TYPE_CHECKING:
    from services.verifier.model import Ready

GIL_SWITCH_SECONDS = 0.001  # how long the engine thread may hold the interpreter while the event loop waits
REDIS_PROBE_SECONDS = 3.0
ENERGY_SECONDS = 1.0  # between two looks at the energy of an idle verifier
GOODBYE_SECONDS = 5.0  # beyond the drain budget, for a client that does not end in time


@dataclass
class _Parts:
    """What the running service is made of; closed in this order."""

    sessions: Sessions
    dead_letters: DeadLetters
    intake: Intake
    pump: Pump
    store: ContextStore
    redis: Link
    policy: PolicyReader


async def run(settings: VerifierSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises ``ConfigError`` where settings or model cannot work."""
    log = structlog.get_logger()
    sys.setswitchinterval(GIL_SWITCH_SECONDS)
    stop = stop_event()
    tracing = tracer(settings.otlp_endpoint, "verifier", f"{socket.gethostname()}-{os.getpid()}")
    telemetry = Telemetry(watchdog_seconds=settings.watchdog_seconds)
    telemetry.conditions.update(model=False, serving=True)
    try:
        port = await telemetry.serve(settings.metrics_host, settings.metrics_port)
    except OSError as error:
        where = f"{settings.metrics_host}:{settings.metrics_port}"
        raise ConfigError(f"SLUICE_VERIFIER_METRICS_PORT: cannot listen on {where}: {error.strerror}") from error
    log.info("metrics and health", host=settings.metrics_host, port=port)
    thread = EngineThread()
    slots = SlotTable(settings.slots)
    try:
        ready = await _load(thread, settings, slots, stop)
        if ready is not None:
            telemetry.conditions["model"] = True
            yield_to_event_loop(settings.engine_niceness)
            log.info("target loaded", **ready.description)
            await _serve(settings, telemetry, thread, ready, slots, stop, tracing)
    finally:
        thread.close()
        await asyncio.to_thread(tracing.close)
        await telemetry.close()
    log.info("stopped")


async def _load(thread: EngineThread, settings: VerifierSettings, slots: SlotTable, stop: asyncio.Event) -> Ready | None:
    """The loaded target; None if ``stop`` came first."""

    def work() -> Ready:
        from services.verifier import model

        return model.load(settings, slots)

    loading = asyncio.ensure_future(thread.run(work))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([loading, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not loading.done():
        loading.cancel()
        return None
    return await loading


async def _serve(
    settings: VerifierSettings,
    telemetry: Telemetry,
    thread: EngineThread,
    ready: Ready,
    slots: SlotTable,
    stop: asyncio.Event,
    tracing: Tracer,
) -> None:
    client = connect(
        settings.redis_link, connections=settings.redis_connections, timeout_seconds=settings.redis_timeout_ms / 1000
    )
    metrics = VerifierMetrics(telemetry.registry)
    metrics.slots.set(settings.slots)
    metrics.cache_bytes.set(ready.cache_bytes)
    telemetry.conditions.update(redis=False, kafka=False)  # before the first await: it is not ready until both answer
    energy = await asyncio.to_thread(_energy, settings, ready.device, telemetry)
    store = ContextStore(client, _lifetimes(settings))
    parts = _assemble(settings, telemetry, metrics, thread, ready, slots, store, tracing, energy)
    telemetry.start_lag_probe()
    helpers = [
        asyncio.create_task(parts.pump.run()),
        asyncio.create_task(_watch_redis(parts.store, parts.redis)),
        asyncio.create_task(parts.policy.run(client)),
        asyncio.create_task(_tell(energy)),
    ]
    intake = asyncio.create_task(parts.intake.run(stop))
    stopping = asyncio.create_task(_until(stop))
    try:
        await asyncio.wait([intake, stopping, *helpers], return_when=asyncio.FIRST_COMPLETED)
        with Phases(settings.drain_seconds).phase("readiness off"):
            telemetry.conditions["serving"] = False
        for task in helpers:
            if task.done():
                task.result()  # a helper ends by an error only
        async with asyncio.timeout(settings.drain_seconds + GOODBYE_SECONDS):
            await intake
    except TimeoutError:
        structlog.get_logger().warning("gave up waiting for Kafka; what is not committed will be redelivered")
    finally:
        for task in (stopping, *helpers, intake):
            task.cancel()
        await asyncio.gather(stopping, *helpers, intake, return_exceptions=True)
        await parts.sessions.close()
        with contextlib.suppress(*TRANSIENT):
            await client.aclose()
        await parts.dead_letters.close()


def _assemble(
    settings: VerifierSettings,
    telemetry: Telemetry,
    metrics: VerifierMetrics,
    thread: EngineThread,
    ready: Ready,
    slots: SlotTable,
    store: ContextStore,
    tracing: Tracer,
    energy: PassEnergy | None,
) -> _Parts:
    limits = Limits(settings.max_batch_sessions, settings.batch_tokens, settings.prefill_chunk_tokens, settings.slots)
    weights = Weights(parse_weights(settings.tenant_weights), parse_weights(settings.class_weights))
    pump = Pump(thread, ready.engine, Scheduler(limits, weights), slots, metrics, energy)
    dead_letters = DeadLetters(settings.kafka_link, metrics)
    redis = Link("redis", telemetry)
    policy = PolicyReader()
    handler = RoundHandler(
        ready.target,
        store,
        Replies(store, redis, metrics),
        pump,
        _budgets(settings),
        metrics,
        remembered=4 * settings.slots,
        context_bytes=settings.context_bytes,
        policy=policy,
        tracer=tracing,
    )
    sessions = Sessions(handler, dead_letters)
    links = (Link("kafka", telemetry), redis)
    intake = Intake(settings, Offsets(), sessions, pump, links, metrics, _keyring(settings))
    telemetry.health.watch("engine", pump.stalled)
    telemetry.health.watch("poll loop", intake.stalled)
    return _Parts(sessions, dead_letters, intake, pump, store, redis, policy)


def _energy(settings: VerifierSettings, device: str, telemetry: Telemetry) -> PassEnergy | None:
    if settings.energy == "off":
        JoulesCounter(telemetry.registry, ())
        return None
    server = settings.profile(Server, "gpu" if accelerators(device) else "cpu")
    return PassEnergy(settings.supply(device), server, JoulesCounter(telemetry.registry, COMPONENTS).add)


async def _tell(energy: PassEnergy | None) -> None:
    while True:
        await asyncio.sleep(ENERGY_SECONDS)
        if energy is not None:
            await asyncio.to_thread(energy.tick)


async def _until(stop: asyncio.Event) -> None:
    await stop.wait()


def _keyring(settings: VerifierSettings) -> Keyring:
    return Keyring(parse_masters(settings.master_keys.get_secret_value()), parse_revoked(settings.revoked))


def _budgets(settings: VerifierSettings) -> Budgets:
    worker = Rate(settings.worker_tokens_per_second, settings.worker_burst_tokens)
    return Budgets(worker, Rate(settings.tenant_tokens_per_second, settings.tenant_burst_tokens))


def _lifetimes(settings: VerifierSettings) -> Lifetimes:
    return Lifetimes(settings.context_ttl_s * 1000, settings.verdict_ttl_s * 1000, settings.replies_maxlen)


async def _watch_redis(store: ContextStore, link: Link) -> None:
    """An idle verifier learns of an outage too."""
    while True:
        await link.insist(store.ping, TRANSIENT)
        await asyncio.sleep(REDIS_PROBE_SECONDS)
