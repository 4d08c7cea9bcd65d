"""The real services, busy, with a real Prometheus or two that scrape them: what dashboards are tried on.

One Prometheus sees the services as it does without Kubernetes, one as it does there: with a namespace.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from confluent_kafka import Producer

from services.cli.local.options import StackOptions
from services.cli.local.ports import free_port
from services.cli.local.prometheus_server import PrometheusServer, program, shipped_rules
from services.cli.local.stack import Stack
from services.common import keys
from services.common.redis_client import connect
from services.policy import publisher

NAMESPACE = "sluice-test"
SCRAPE_SECONDS = 1.0
DEVICE_CLASS = "phone"
_EDGE = {
    "SLUICE_EDGE_DEVICE_CLASS": DEVICE_CLASS,
    "SLUICE_EDGE_ALPHA": "0.5",
    "SLUICE_EDGE_AUDIT_RATE": "1",
    "SLUICE_EDGE_BREAKER_PAUSE_SECONDS": "0.2",
    "SLUICE_EDGE_SYNTHETIC_STEP_MS": "10",
    "SLUICE_EDGE_ENERGY": "model",
    "SLUICE_EDGE_POWER_PROFILE": "phone",
}
_VERIFIER = {"SLUICE_VERIFIER_SYNTHETIC_PASS_MS": "20", "SLUICE_VERIFIER_SLOTS": "8", "SLUICE_VERIFIER_ENERGY": "model"}
_POLICY = {
    "SCRAPE_SECONDS": f"{SCRAPE_SECONDS:g}",
    "WINDOW_SECONDS": "6",
    "FAST_SECONDS": "3",
    "DECIDE_SECONDS": "1",
    "DWELL_SECONDS": "2",
    "WATTS_BUDGET": "200",
    "ROUND_TRIP_BUDGET_SECONDS": "0.5",
    "JOULES_PER_TOKEN_BUDGET": "2",
}
# What clients ask for, in turn: as they come, strictly, and with a deadline that no pass can meet.
_ASKED: tuple[dict[str, Any], ...] = ({}, {"gamma": 0.3}, {"gamma": 0.0, "deadline": 0.01}, {"gamma": 1.0, "k": 3})


class Site:
    """Use as a context manager. ``urls``: of the Prometheus servers, each with the namespace that it knows."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        options = StackOptions(
            verifiers=2, draft="synthetic", target="synthetic", edge_environment=_EDGE, verifier_environment=_VERIFIER
        )
        self.stack = Stack(options)
        self._policy_port = free_port()
        self._children: list[subprocess.Popen[bytes]] = []
        self._over = threading.Event()
        self._undo = contextlib.ExitStack()
        self._clients = [threading.Thread(target=self._ask, args=(number,)) for number in range(2)]
        self.urls: dict[str, str] = {}

    def __enter__(self) -> Site:
        with contextlib.ExitStack() as undo:
            undo.enter_context(self.stack)
            undo.callback(self._end)
            self._find()
            self.urls = {self._prometheus(label): label for label in ("", NAMESPACE)}
            self._start_policy(next(iter(self.urls)))
            for client in self._clients:
                client.start()
            self._undo = undo.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._undo.close()

    def _end(self) -> None:
        self._over.set()
        for client in self._clients:
            if client.is_alive():
                client.join(60)
        for child in self._children:
            child.send_signal(signal.SIGTERM)
        for child in self._children:
            child.wait(20)

    def hostile(self) -> None:
        """A message that no verifier can take."""
        producer = Producer({"bootstrap.servers": self.stack.kafka})
        producer.produce(keys.CANDIDATES_TOPIC, b"junk")
        assert producer.flush(20) == 0

    def restart_a_verifier(self) -> None:
        """The other one gets its partitions, and gives them back."""
        self.stack.nursery.end("verifier 2")
        self.stack.start_verifiers()
        self._find()

    def by_hand(self, k: int, gamma: float, seconds: float = 20.0) -> None:
        """The policy is told what to decide."""

        async def tell() -> None:
            client = connect(self.stack.redis, connections=1, timeout_seconds=20.0)
            await publisher.override(client, DEVICE_CLASS, k, gamma, seconds, "a test")
            await client.aclose()

        asyncio.run(tell())

    def _find(self) -> None:
        """Tells Prometheus where everybody is, as a discovery would."""
        targets = {
            "sluice-edge-worker": [self.stack.url],
            "sluice-verifier": self.stack.verifier_urls,
            "sluice-policy": [f"http://127.0.0.1:{self._policy_port}"],
        }
        for namespace in ("", NAMESPACE):
            labels = {"namespace": namespace} if namespace else {}
            for job, urls in targets.items():
                found = [{"targets": [url.removeprefix("http://") for url in urls], "labels": labels}]
                path = self._folder / f"{job}{namespace}.json"
                path.with_suffix(".new").write_text(json.dumps(found))
                path.with_suffix(".new").replace(path)  # whole, whenever it is read

    def _prometheus(self, namespace: str) -> str:
        folder = self._folder / (namespace or "plain")
        server = PrometheusServer.new(program(), folder)
        jobs: dict[str, list[str]] = {"sluice-edge-worker": [], "sluice-verifier": [], "sluice-policy": []}
        server.configure(jobs, SCRAPE_SECONDS, list(_quick(shipped_rules(), folder)))
        path = folder / "prometheus.yml"
        config = json.loads(path.read_text())
        for job in config["scrape_configs"]:
            del job["static_configs"]
            files = [str(self._folder / f"{job['job_name']}{namespace}.json")]
            job["file_sd_configs"] = [{"files": files, "refresh_interval": "1s"}]
        path.write_text(json.dumps(config))
        self._children.append(subprocess.Popen(server.command()))
        return server.url

    def _start_policy(self, prometheus: str) -> None:
        knobs = _POLICY | {
            "REDIS_URL": self.stack.redis,
            "PROMETHEUS_URL": prometheus,
            "METRICS_PORT": str(self._policy_port),
            "LOG_FILE": str(self._folder / "decisions.jsonl"),
        }
        environment = dict(os.environ) | {f"SLUICE_POLICY_{name}": value for name, value in knobs.items()}
        with (self._folder / "policy.log").open("wb") as log:
            self._children.append(subprocess.Popen([sys.executable, "-m", "services.policy"], env=environment, stderr=log))

    def _ask(self, number: int) -> None:
        """One client: an answer after the other."""
        url = f"{self.stack.url}/v1/chat/completions"
        with httpx.Client(timeout=60, trust_env=False) as http:
            for turn in itertools.count(number):
                if self._over.is_set():
                    return
                said = [{"role": "user", "content": f"Question {turn % 7}"}]
                body = {"model": "sluice", "messages": said, "max_tokens": 24, "sluice": _ASKED[turn % len(_ASKED)]}
                with contextlib.suppress(httpx.TransportError):
                    http.post(url, json=body)


def _quick(rules: list[Path], folder: Path) -> Iterator[Path]:
    """The shipped rules, evaluated with each scrape."""
    for path in rules:
        quick = folder / path.name
        quick.write_text(re.sub(r"interval: \d+s", f"interval: {SCRAPE_SECONDS:g}s", path.read_text()))
        yield quick


class Prometheus:
    """One of them, asked as Grafana asks."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=20, trust_env=False)

    def course(self, expr: str, begin: float, end: float, step: float) -> list[dict[str, Any]]:
        """Series with their ``values``. Raises ``AssertionError`` where Prometheus refuses the query."""
        asked = {"query": expr, "start": str(begin), "end": str(end), "step": str(step)}
        return self._result("/api/v1/query_range", asked)

    def now(self, expr: str) -> list[dict[str, Any]]:
        return self._result("/api/v1/query", {"query": expr})

    def label_values(self, selector: str, label: str) -> list[str]:
        found: list[str] = self._data(f"/api/v1/label/{label}/values", {"match[]": selector})
        return found

    def close(self) -> None:
        self._http.close()

    def _result(self, path: str, asked: dict[str, str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._data(path, asked)["result"]
        return found

    def _data(self, path: str, asked: dict[str, str]) -> Any:
        answer = self._http.get(path, params=asked).json()
        assert answer["status"] == "success", (asked, answer.get("error"))
        return answer["data"]
