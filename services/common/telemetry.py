"""Logs, metrics, health and loop lag: the same for every service.

The HTTP server runs on the service's own event loop on purpose: a stuck loop then fails its liveness probe.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from array import array
from collections.abc import Callable
from http import HTTPStatus

import structlog
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

LAG_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0)
PROBE_SECONDS = 0.01
KEPT_LAGS = 100_000  # the last ~17 minutes at one observation each 10 ms


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
    logging.getLogger("aiokafka").setLevel(number if level == "debug" else logging.CRITICAL)


class LoopLag:
    """How late the event loop wakes a sleeper, in seconds: a histogram, and the last values for exact quantiles."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._histogram = Histogram(
            "sluice_loop_lag_seconds", "How late the event loop wakes a sleeper", buckets=LAG_BUCKETS, registry=registry
        )
        self._values = array("f")
        self._count = 0

    def observe(self, seconds: float) -> None:
        self._histogram.observe(seconds)
        if len(self._values) < KEPT_LAGS:
            self._values.append(seconds)
        else:
            self._values[self._count % KEPT_LAGS] = seconds
        self._count += 1

    def summary(self) -> dict[str, float]:
        """``count`` of all observations; ``p50``, ``p99`` and ``max`` (seconds) of the last ones kept."""
        values = sorted(self._values)
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
        while True:
            before = loop.time()
            await asyncio.sleep(PROBE_SECONDS)
            self.observe(max(0.0, loop.time() - before - PROBE_SECONDS))


class Telemetry:
    """Metrics registry, loop lag and health of one service.

    ``conditions`` are what readiness waits for: the service is ready when each one is true.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.lag = LoopLag(self.registry)
        self.conditions: dict[str, bool] = {}
        self._server: asyncio.Server | None = None
        self._probe: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        return bool(self.conditions) and all(self.conditions.values())

    async def serve(self, host: str, port: int) -> int:
        """Listen; returns the port (``port`` 0 picks one). Raises ``OSError`` if it is taken."""
        self._server = await asyncio.start_server(self._answer, host, port)
        chosen: int = self._server.sockets[0].getsockname()[1]
        return chosen

    def start_lag_probe(self) -> None:
        """Begin to measure the loop lag: once the service serves, so that model loading is not in the figure."""
        if self._probe is None:
            self._probe = asyncio.create_task(self.lag.run(), name="loop-lag")

    async def close(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probe
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(5):
                request = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n", 1)[0].split(b" ")
                path = request[1].split(b"?")[0].decode("latin-1") if len(request) > 1 else ""
                status, kind, body = await self._page(path)
                head = (
                    f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\n"
                    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                )
                writer.write(head.encode() + body)
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a probe that hung up or sent no request: nothing to answer
        finally:
            writer.close()

    async def _page(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        if path == "/metrics":
            return HTTPStatus.OK, CONTENT_TYPE_PLAIN_0_0_4, await _in_thread(lambda: generate_latest(self.registry))
        if path == "/livez":
            return HTTPStatus.OK, "text/plain", b"ok\n"
        if path == "/readyz":
            status = HTTPStatus.OK if self.ready else HTTPStatus.SERVICE_UNAVAILABLE
            return status, "application/json", json.dumps(self.conditions).encode()
        if path == "/lag":
            return HTTPStatus.OK, "application/json", await _in_thread(lambda: json.dumps(self.lag.summary()).encode())
        return HTTPStatus.NOT_FOUND, "text/plain", b"not found: try /metrics, /livez, /readyz or /lag\n"


async def _in_thread(work: Callable[[], bytes]) -> bytes:
    return await asyncio.to_thread(work)
