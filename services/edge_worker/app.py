"""Life cycle of an edge worker: model first, then Kafka, Redis and the HTTP API; and the same way back."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import structlog
import uvicorn
from starlette.responses import JSONResponse

from services.common.drift.monitor import State as DriftState
from services.common.lifecycle import Phases, stop_event, until
from services.common.policy_reader import PolicyReader
from services.common.settings import ConfigError
from services.common.telemetry import Telemetry
from services.common.tracing import Tracer, tracer
from services.edge_worker import calibration
from services.edge_worker.answer import AnswerRequest, AnswerStats
from services.edge_worker.answerer import SessionAnswerer
from services.edge_worker.breaker import Breaker
from services.edge_worker.calibration import Calibrated
from services.edge_worker.drift import DriftWatch, watching
from services.edge_worker.energy import DeviceEnergy, device_energy
from services.edge_worker.gate import Gate
from services.edge_worker.http.api_keys import ApiKeys
from services.edge_worker.http.app import create_app
from services.edge_worker.http.bounds import Bounds
from services.edge_worker.http.endpoints import Promise, promise_nothing
from services.edge_worker.http.watch import Watch
from services.edge_worker.identity import signer
from services.edge_worker.kafka_client import KafkaRedisClient
from services.edge_worker.listen import listen
from services.edge_worker.metrics import EdgeMetrics, KnobMetrics
from services.edge_worker.session import Worker
from services.edge_worker.settings import EdgeSettings
from services.edge_worker.signals import SAFE_TAU
from services.edge_worker.uplink import UplinkMeter

if TYPE_CHECKING:
    from services.edge_worker.model import Ready

GIL_SWITCH_SECONDS = 0.001  # how long the draft thread may hold the interpreter while the event loop waits
SAMPLE_SECONDS = 1.0
BREAK_OFF_SECONDS = 3.0  # of the drain budget, for answers to end that outlast it
FLUSH_SECONDS = 2  # beyond it, for their last chunks to leave

log = structlog.get_logger()


async def run(settings: EdgeSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises ``ConfigError`` where settings or model cannot work."""
    sys.setswitchinterval(GIL_SWITCH_SECONDS)
    stop = stop_event()
    keys = _api_keys(settings)
    calibrated = calibration.load(settings)
    listener = listen(settings.host, settings.port)
    signing = signer(settings.credential.get_secret_value(), settings.worker)
    tracing = tracer(settings.otlp_endpoint, "edge-worker", signing.worker, settings.trace_share)
    ready = await asyncio.to_thread(_load, settings, calibrated)
    if stop.is_set():
        listener.close()
        return
    log.info("draft loaded", worker=signing.worker, **ready.description)
    telemetry = Telemetry(watchdog_seconds=settings.watchdog_seconds)
    telemetry.health.watch("draft model", ready.drafter.stalled)
    metrics = EdgeMetrics(telemetry.registry)
    policy = PolicyReader() if settings.follow_policy else None
    client = KafkaRedisClient(
        signer=signing,
        bootstrap=settings.kafka_link,
        redis=settings.redis_link,
        link_seconds=settings.link_seconds,
        on_unknown=metrics.unknown,
        policy=policy,
    )
    meter = UplinkMeter(client.peers, telemetry.registry, lambda: telemetry.scraped_bytes)
    energy = await asyncio.to_thread(device_energy, settings, ready.device, meter, telemetry.registry)
    worker = _worker(settings, ready, client, metrics, _gate(settings, calibrated), policy, energy, tracing)
    drift = watching(settings, calibrated, telemetry.registry)
    KnobMetrics(telemetry.registry, settings.device_class, k=settings.k, gamma=settings.gamma, policy=policy)
    answerer = SessionAnswerer(worker, partial(_ended, metrics, drift, settings.token_seconds))
    metrics.running.set_function(lambda: len(answerer.running))
    telemetry.conditions["serving"] = True
    sampling = asyncio.create_task(_sample(meter, telemetry, client, worker.energy))
    try:
        await _watch(settings, telemetry)
        await client.start()
        promise = calibrated.promise if calibrated is not None else promise_nothing
        await _serve(settings, ready, answerer, telemetry, listener, keys, stop, promise, drift)
    finally:
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)
        await client.close()
        await asyncio.to_thread(ready.drafter.close)
        await asyncio.to_thread(tracing.close)
        await telemetry.close()
    log.info("stopped")


def _api_keys(settings: EdgeSettings) -> ApiKeys:
    try:
        return ApiKeys(settings.api_keys, settings.api_keys_file)
    except (ValueError, OSError) as error:
        raise ConfigError(f"SLUICE_EDGE_API_KEYS or SLUICE_EDGE_API_KEYS_FILE: {error}") from error


def _load(settings: EdgeSettings, calibrated: Calibrated | None) -> Ready:
    from services.edge_worker import model

    return model.load(settings, calibrated)


def _gate(settings: EdgeSettings, calibrated: Calibrated | None) -> Gate:
    tau_u = settings.tau_u
    if calibrated is not None:
        tau_u = calibrated.tau_u
        policy, promised = calibrated.calibration.policy, calibrated.calibration.guaranteed
        log.info("the gate is calibrated", signal=policy.signal, tau_u=tau_u, alpha=calibrated.alpha, guaranteed=promised)
        if policy.answer_level is not None:
            log.info("whole answers may stay local", decide_tokens=policy.answer_level.decide_tokens)
    elif tau_u is None:
        tau_u = SAFE_TAU[settings.signal]
        log.info("the gate is not calibrated: a safe default threshold is used", signal=settings.signal, tau_u=tau_u)
    return Gate(
        settings.signal,
        tau_u,
        settings.random_rate,
        settings.importance,
        settings.importance_quantile,
        settings.importance_window,
        None if calibrated is None else calibrated.answer_level,
    )


def _worker(
    settings: EdgeSettings,
    ready: Ready,
    client: KafkaRedisClient,
    metrics: EdgeMetrics,
    gate: Gate,
    policy: PolicyReader | None,
    energy: DeviceEnergy,
    tracing: Tracer,
) -> Worker:
    return Worker(
        drafter=ready.drafter,
        client=client,
        breaker=Breaker(
            settings.breaker_failures,
            settings.breaker_pause_seconds,
            settings.breaker_pause_max_seconds,
            on_change=metrics.breaker_changed,
        ),
        gate=gate,
        end_ids=ready.end_ids,
        tokenizer_hash=ready.tokenizer_hash,
        target=ready.target,
        span_tokens=settings.span_tokens,
        wait_tokens=settings.wait_tokens,
        risk=settings.risk,
        audit_rate=settings.audit_rate,
        wait_seconds=settings.wait_seconds,
        observer=metrics,
        policy=policy,
        energy=energy,
        tracer=tracing,
        device_class=settings.device_class,
        ahead=settings.ahead,
    )


def _bounds(settings: EdgeSettings) -> Bounds:
    return Bounds(
        default_mode=settings.mode,
        k_max=settings.k_max,
        default_k=settings.k,
        gamma_max=settings.gamma_max,
        default_gamma=settings.gamma,
        deadline_max=settings.deadline_max_seconds,
        default_deadline=settings.deadline_seconds,
        default_on_outage=settings.on_outage,
    )


async def _serve(
    settings: EdgeSettings,
    ready: Ready,
    answerer: SessionAnswerer,
    telemetry: Telemetry,
    listener: socket.socket,
    keys: ApiKeys,
    stop: asyncio.Event,
    promise: Promise,
    watch: Watch,
) -> None:
    app = create_app(
        answerer,
        tokenizer=ready.tokenizer,
        model_name=settings.model_name,
        context_tokens=ready.context_tokens,
        end_ids=ready.end_ids,
        bounds=_bounds(settings),
        api_keys=keys,
        readiness=lambda: "draining" if answerer.draining else None,
        registry=telemetry.registry,
        health=telemetry.health,
        scraped=telemetry.scraped,
        promise=promise,
        watch=watch,
    )
    app.add_route("/lag", lambda _: JSONResponse(telemetry.lag.summary()), methods=["GET"])
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=FLUSH_SECONDS)
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    log.info("listening", host=settings.host, port=listener.getsockname()[1])
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    telemetry.conditions["serving"] = False
    await drain(answerer, Phases(settings.drain_seconds))
    server.should_exit = True
    await serving


async def drain(answerer: SessionAnswerer, phases: Phases) -> None:
    """Running answers finish; one that outlasts the budget ends with what is final by then, and says why."""
    with phases.phase("readiness off"):
        answerer.draining = True
    reserve = min(BREAK_OFF_SECONDS, phases.left / 4)
    with phases.phase("drain"):
        drained = await until(lambda: not answerer.running, phases.left - reserve)
    if not drained:
        log.warning("drain budget is over; the answers that still run end here", answers=len(answerer.running))
        with phases.phase("break off"):
            answerer.stop("the worker was shut down")
            await until(lambda: not answerer.running, phases.left)


class _Server(uvicorn.Server):
    """Signals belong to the life cycle, not to the HTTP server."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _watch(settings: EdgeSettings, telemetry: Telemetry) -> None:
    """Health and metrics on a thread of their own, beside the API's: they answer even where the event loop is stuck."""
    try:
        port = await telemetry.serve(settings.metrics_host, settings.metrics_port)
    except OSError as error:
        where = f"{settings.metrics_host}:{settings.metrics_port}"
        raise ConfigError(f"SLUICE_EDGE_METRICS_PORT: cannot listen on {where}: {error.strerror}") from error
    log.info("metrics and health", host=settings.metrics_host, port=port)
    telemetry.start_lag_probe()


async def _sample(meter: UplinkMeter, telemetry: Telemetry, client: KafkaRedisClient, energy: DeviceEnergy) -> None:
    while True:
        meter.sample()
        await energy.settle()
        links = client.links()
        telemetry.health.notes.update(links)
        for name, up in links.items():
            telemetry.link(name, up=up)
        await asyncio.sleep(SAMPLE_SECONDS)


def _ended(
    metrics: EdgeMetrics, drift: DriftWatch, token_seconds: float | None, request: AnswerRequest, stats: AnswerStats
) -> None:
    drift.ended(request, stats)
    metrics.ended(stats, objective_seconds=token_seconds, drifted=drift.reading.state is DriftState.DRIFTED)
    log.info(
        "answer ended",
        end=stats.finish_reason or "stopped",
        tokens=stats.total,
        rounds=stats.rounds,
        lost_rounds=stats.lost_rounds,
        unverified=stats.unverified,
    )
