"""Logs, metrics, health and loop lag: the same for every service.

The HTTP server has a thread of its own, so that it can tell that the service's event loop is stuck, and where.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import threading
import time
from array import array
from collections.abc import Mapping
from http import HTTPStatus

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from services.common.catalogue import shared
from services.common.health import Health
from services.common.meters import Meters
from services.common.probe_server import Page, ProbeServer

METRICS = "/metrics"
PROBE_SECONDS = 0.05  # waking up is the dearest part of all metrics: at 0.01 it took 1.9 % of a core
KEPT_LAGS = 20_000  # the last ~17 minutes


def configure_logging(service: str, level: str) -> None:
    """JSON lines on standard error. The Kafka client's lines show at ``debug`` only: services report outages themselves."""
    number = getattr(logging, level.upper())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    structlog.contextvars.bind_contextvars(service=service)
    logging.basicConfig(level=max(number, logging.WARNING), stream=sys.stderr)
    # Never at DEBUG: it writes whole requests, with token ids, and with the password of a PLAIN login.
    logging.getLogger("aiokafka").setLevel(logging.INFO if level == "debug" else logging.CRITICAL)


class LoopLag:
    """How late the event loop wakes a sleeper, in seconds: a histogram, and the last values for exact quantiles."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._histogram = Meters(registry).histogram(shared.LOOP_LAG)
        self._values = array("f")
        self._count = 0
        self._beat = 0.0  # monotonic seconds of the last time that the loop came round; 0 while it is not measured

    def observe(self, seconds: float) -> None:
        self._histogram.observe(seconds)
        if len(self._values) < KEPT_LAGS:
            self._values.append(seconds)
        else:
            self._values[self._count % KEPT_LAGS] = seconds
        self._count += 1

    def blocked(self) -> float:
        """Seconds since the event loop last came round."""
        return time.monotonic() - self._beat if self._beat else 0.0

    def summary(self) -> dict[str, float]:
        """``count`` of all observations; ``p50``, ``p99`` and ``max`` (seconds) of the last ones kept."""
        values = sorted(array("f", self._values))  # of a copy: the loop goes on while another thread asks
        if not values:
            return {"count": 0, "p50": 0.0, "p99": 0.0, "max": 0.0}
        last = len(values) - 1
        return {
            "count": self._count,
            "p50": values[round(0.5 * last)],
            "p99": values[round(0.99 * last)],
            "max": values[-1],
        }

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                before = loop.time()
                self._beat = time.monotonic()
                await asyncio.sleep(PROBE_SECONDS)
                self.observe(max(0.0, loop.time() - before - PROBE_SECONDS))
        finally:
            self._beat = 0.0


class Telemetry:
    """Metrics registry, loop lag and health of one service. ``watchdog_seconds``: see ``Health``."""

    def __init__(self, registry: CollectorRegistry | None = None, *, watchdog_seconds: float = 30.0) -> None:
        self.registry = registry or CollectorRegistry()
        self.lag = LoopLag(self.registry)
        self._link_up = Meters(self.registry).gauge(shared.LINK_UP)
        self.health = Health(watchdog_seconds)
        self.scraped_bytes = 0  # that pages of metrics had, from here and from wherever ``scraped`` is told of
        self._server: ProbeServer | None = None
        self._probe: asyncio.Task[None] | None = None
        self._stuck: dict[str, str] = {}

    @property
    def conditions(self) -> dict[str, bool]:
        return self.health.conditions

    @property
    def ready(self) -> bool:
        return self.health.ready

    def link(self, name: str, *, up: bool) -> None:
        """Whether the link to the part ``name`` worked when last used."""
        self._link_up.labels(name).set(up)

    def scraped(self, size: int) -> None:
        """A page of metrics of ``size`` bytes has gone out."""
        self.scraped_bytes += size

    async def serve(self, host: str, port: int) -> int:
        """Listen; returns the port (``port`` 0 picks one). Raises ``OSError`` if it is taken."""
        server = ProbeServer(self._page, self._tell, lambda path, size: self.scraped(size) if path == METRICS else None)
        chosen = await asyncio.to_thread(server.start, host, port)
        self._server = server
        return chosen

    def start_lag_probe(self) -> None:
        """Begin to measure and to watch the event loop: once the service serves, so that model loading is not in the figure."""
        if self._probe is None:
            self._probe = asyncio.create_task(self.lag.run(), name="loop-lag")
            thread = threading.get_ident()
            self.health.watch("event loop", self.lag.blocked, lambda: _place(thread))

    async def close(self) -> None:
        self.health.unwatch("event loop")
        if self._probe is not None:
            self._probe.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probe
        if self._server is not None:
            await asyncio.to_thread(self._server.close)

    def _tell(self) -> None:
        """One log line when a part gets stuck and one when it gets on: after a restart they are all that is left."""
        now = self.health.causes()
        for name in now.keys() - self._stuck.keys():
            structlog.get_logger().error("stuck", part=name, cause=now[name])
        for name in self._stuck.keys() - now.keys():
            structlog.get_logger().warning("no longer stuck", part=name)
        self._stuck = now

    def _page(self, path: str) -> Page:
        if path == METRICS:
            return HTTPStatus.OK, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self.registry)
        if path == "/startz":
            return _json({"started": self.health.started}, good=self.health.started)
        if path == "/livez":
            causes = self.health.causes()
            return _json({"alive": not causes, "causes": causes}, good=not causes)
        if path == "/readyz":
            answer = self.health.readiness()
            return _json(answer, good=bool(answer["ready"]))
        if path == "/lag":
            return _json(self.lag.summary(), good=True)
        return HTTPStatus.NOT_FOUND, "text/plain", b"not found: try /metrics, /startz, /livez, /readyz or /lag\n"


def _json(answer: Mapping[str, object], *, good: bool) -> Page:
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return status, "application/json", json.dumps(answer).encode()


def _place(thread: int) -> str:
    """The line that a thread is at."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return ""
    return f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno} in {frame.f_code.co_name}"
