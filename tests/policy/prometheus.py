"""A real Prometheus for one test."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.local import prometheus_server
from services.cli.local.debian import Unavailable as Unavailable
from services.cli.local.prometheus_server import program as program


@contextlib.contextmanager
def needed() -> Iterator[None]:
    """Where no Prometheus can be had: a failure in CI, a skipped test elsewhere."""
    try:
        yield
    except Unavailable as reason:
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"Prometheus is needed with CI=true: {reason}")
        pytest.skip(f"Prometheus cannot be had: {reason}")


class PrometheusServer:
    """Scrapes ``jobs`` (name: ``host:port`` of each) each ``scrape`` milliseconds. Use as a context manager."""

    def __init__(self, folder: Path, jobs: dict[str, list[str]], scrape_ms: int) -> None:
        self._server = prometheus_server.PrometheusServer.new(program(), folder / "prometheus")
        self._server.configure(jobs, scrape_ms / 1000)
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
