"""The processes of one run: the local stack, a real Prometheus that scrapes it with the shipped rules, the policy, the load."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from services.cli.errors import CommandError
from services.cli.local import embedded
from services.cli.local.debian import Unavailable
from services.cli.local.ports import free_port
from services.cli.local.prometheus_server import PrometheusServer, program, shipped_rules
from services.cli.local.stack import Stack
from services.cli.loop.plan import Fleet, Times

POLICY, LOAD = "policy", "load"
BEGIN_SECONDS = 60.0
POLL_SECONDS = 0.05


class Site:
    """Use as a context manager: entering starts everything but the load, leaving stops everything.

    Raises ``CommandError`` where a part does not start.
    """

    def __init__(
        self,
        fleet: Fleet,
        times: Times,
        *,
        prometheus: Path | None = None,
        kafka: str | None = None,
        redis: str | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        progress("looking for Prometheus")
        try:
            found = program(prometheus)
        except Unavailable as error:
            raise CommandError(f"no Prometheus: {error}; install one, or say where it is with --prometheus") from error
        self.fleet, self.times = fleet, times
        self.stack = Stack(fleet.stack(kafka=kafka, redis=redis), progress)
        self.nursery = self.stack.nursery
        self.prometheus = PrometheusServer.new(found, self.nursery.folder / "prometheus")
        self.rules = shipped_rules()
        self._decisions = self.nursery.folder / "decisions.jsonl"
        self._load = self.nursery.folder / "load.json"
        self._read = 0

    def __enter__(self) -> Site:
        try:
            self.stack.__enter__()
            self._start_control()
        except BaseException:
            self.stack.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.nursery.note()
        self.nursery.end(LOAD)
        self.nursery.end(POLICY, embedded.PROMETHEUS)
        self.stack.stop()

    def _start_control(self) -> None:
        port = free_port()
        jobs = {
            "sluice-edge-worker": _hosts(self.stack.urls),
            "sluice-verifier": _hosts(self.stack.verifier_urls),
            "sluice-policy": [f"127.0.0.1:{port}"],
        }
        self.prometheus.configure(jobs, self.times.scrape, self.rules)
        self.start_prometheus()
        fleet = self.fleet
        values = {
            "REDIS_URL": self.stack.redis,
            "PROMETHEUS_URL": self.prometheus.url,
            "METRICS_PORT": str(port),
            "LOG_FILE": str(self._decisions),
            "DAMAGE_BUDGET": f"{fleet.damage:g}",
            "UTILISATION_BUDGET": f"{fleet.utilisation:g}",
            "TAU_U": f"{fleet.tau_u:g}",
            "WAIT_TOKENS": str(fleet.wait_tokens),
            "RISK": f"{fleet.risk:g}",
            **self.times.policy(),
        }
        settings = {f"SLUICE_POLICY_{name}": value for name, value in values.items()}
        self.nursery.start(POLICY, [sys.executable, "-m", "services.policy"], settings)
        self.stack.wait_ready({POLICY: f"http://127.0.0.1:{port}/readyz"})

    def start_prometheus(self) -> None:
        """At the same address as before, with what it had recorded."""
        embedded.start_prometheus(self.nursery, self.prometheus)

    def stop_prometheus(self) -> None:
        self.nursery.end(embedded.PROMETHEUS)

    def start_load(self, phases: Sequence[tuple[float, float]], duration: float, seed: int) -> None:
        """``phases``: second and rate. Returns when it has begun."""
        fleet = self.fleet
        command = [sys.executable, "-m", "services.cli", "loadgen", *self.stack.urls, "--rate", f"{phases[0][1]:g}"]
        for at, rate in phases[1:]:
            command += ["--step", f"{at:g}:{rate:g}"]
        command += ["--duration", f"{duration:g}", "--clients", str(fleet.clients), "--max-tokens", str(fleet.max_tokens)]
        command += ["--seed", str(seed), "--out", str(self._load), "--json"]
        child = self.nursery.start(LOAD, command)
        end = time.monotonic() + BEGIN_SECONDS
        while child.log.stat().st_size == 0:  # it says a line when it begins
            if child.exit_status() is not None or time.monotonic() > end:
                raise CommandError(f"the load did not begin: {child.describe_death()}")
            time.sleep(POLL_SECONDS)

    def stop_load(self) -> None:
        self.nursery.end(LOAD)

    def load(self) -> dict[str, Any] | None:
        """What the load reports, once it is over."""
        return json.loads(self._load.read_text()) if self._load.exists() else None

    def new_decisions(self) -> list[dict[str, Any]]:
        """Lines of the policy's decision log since the last call."""
        if not self._decisions.exists():
            return []
        with self._decisions.open() as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        self._read += len(whole.encode())
        return [json.loads(line) for line in whole.splitlines()]


def _hosts(urls: Sequence[str]) -> list[str]:
    return [url.removeprefix("http://") for url in urls]
