"""A real Prometheus for one test."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from services.cli.local import prometheus_server
from services.cli.local.debian import Unavailable as Unavailable
from services.cli.local.prometheus_server import program as program


class PrometheusServer:
    """Scrapes ``targets`` (``host:port``) each ``scrape`` milliseconds. Use as a context manager."""

    def __init__(self, folder: Path, targets: list[str], scrape_ms: int) -> None:
        self._server = prometheus_server.PrometheusServer.new(program(), folder / "prometheus")
        self._server.configure({"sluice": targets}, scrape_ms / 1000)
        self.url = self._server.url
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PrometheusServer:
        self._process = subprocess.Popen(self._server.command())
        end = time.monotonic() + 30.0
        while not self._server.answers():
            assert self._process.poll() is None, "Prometheus ended at its start"
            assert time.monotonic() < end, "Prometheus is not ready"
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None
