"""A real Prometheus for one test: the one on the path, or Debian's, unpacked into the user's cache; nothing is installed."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

import httpx

from tests.debian import Unavailable as Unavailable
from tests.debian import unpacked


def program() -> Path:
    """Raises ``Unavailable``."""
    found = shutil.which("prometheus")
    return Path(found) if found is not None else unpacked("prometheus", "prometheus") / "usr" / "bin" / "prometheus"


class PrometheusServer:
    """Scrapes ``targets`` (``host:port``) each ``scrape`` milliseconds. Use as a context manager."""

    def __init__(self, folder: Path, targets: list[str], scrape_ms: int) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        config = folder / "prometheus.yml"
        listed = ", ".join(f"'{target}'" for target in targets)
        config.write_text(
            f"global: {{scrape_interval: {scrape_ms}ms, scrape_timeout: {scrape_ms}ms}}\n"
            f"scrape_configs: [{{job_name: sluice, static_configs: [{{targets: [{listed}]}}]}}]\n"
        )
        self._command = [str(program()), f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
        self._command += [f"--web.listen-address=127.0.0.1:{self._port}", "--log.level=error"]
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PrometheusServer:
        self._process = subprocess.Popen(self._command)
        end = time.monotonic() + 30.0
        while True:
            try:
                if httpx.get(f"{self.url}/-/ready", timeout=2.0, trust_env=False).status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            assert self._process.poll() is None, "Prometheus ended at its start"
            assert time.monotonic() < end, "Prometheus is not ready"
            time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None
