"""A real Prometheus for one test: the one on the path, or Debian's, unpacked into the user's cache; nothing is installed."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import httpx

FETCH_SECONDS = 300


class Unavailable(Exception):
    """Prometheus cannot be had here; ``str`` is the reason."""


def program() -> Path:
    """Raises ``Unavailable``."""
    found = shutil.which("prometheus")
    if found is not None:
        return Path(found)
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Unavailable("no `prometheus` on the path, and no apt-get to fetch it")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sluice"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / "debian-prometheus"
    with (cache / "debian-prometheus.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs fetch once
        if not (folder / ".complete").exists():
            _fetch(folder)
    return folder / "usr" / "bin" / "prometheus"


def _fetch(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    done = _run(["apt-get", "-qq", "download", "prometheus"], folder)
    if done.returncode != 0:  # no lists of packages yet
        _run(["apt-get", "-qq", "update"], folder)
        done = _run(["apt-get", "-qq", "download", "prometheus"], folder)
    if done.returncode != 0:
        raise Unavailable(f"apt-get could not fetch Prometheus: {' '.join(done.stderr.split())[:300]}")
    for package in folder.glob("*.deb"):
        _run(["dpkg-deb", "-x", str(package), str(folder)], folder)
        package.unlink()
    (folder / ".complete").touch()


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)


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
