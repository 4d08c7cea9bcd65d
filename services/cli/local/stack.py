"""The whole system on one machine: broker, Redis, verifiers and edge workers as child processes."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from types import TracebackType

import httpx

from services.cli.errors import CommandError
from services.cli.local import embedded, environment
from services.cli.local.identities import Identities
from services.cli.local.nursery import Nursery
from services.cli.local.options import StackOptions
from services.cli.local.ports import free_port, require_free
from services.cli.local.redis_server import RedisServer

POLL_SECONDS = 0.1
MOST_DEATHS = 5  # of one part, before a stack gives up starting it again
EDGE_WORKER = "edge worker"


class Stack:
    """Use as a context manager: entering starts everything and waits until it is ready, leaving stops everything.

    Raises ``CommandError`` where a part does not start. ``nursery.leftovers()`` counts what still runs.
    """

    def __init__(self, options: StackOptions, progress: Callable[[str], None] = lambda _: None) -> None:
        if options.port is not None:
            require_free(options.host, options.port)
        self.options = options
        self.identities = Identities.of_run()
        self.nursery = Nursery(progress, options.stop_seconds)
        self.kafka = options.kafka or ""
        self.redis = options.redis or ""
        names = [EDGE_WORKER, *(f"{EDGE_WORKER} {number}" for number in range(2, options.edge_workers + 1))]
        self._edge_ports = {name: free_port(options.host) for name in names}
        if options.port is not None:
            self._edge_ports[EDGE_WORKER] = options.port
        self._redis_server = RedisServer.new(self.nursery.folder, options.redis_memory_mb)
        self._verifier_ports: dict[str, int] = {}
        self._deaths: dict[str, int] = {}

    @property
    def url(self) -> str:
        """Of the (first) edge worker's HTTP API."""
        return self.urls[0]

    @property
    def urls(self) -> list[str]:
        """Of all edge workers' HTTP APIs, where their metrics are, too."""
        return [f"http://{self.options.host}:{port}" for port in self._edge_ports.values()]

    @property
    def verifier_urls(self) -> list[str]:
        """Of the metrics of those verifiers that run."""
        return [f"http://127.0.0.1:{port}" for name, port in self._verifier_ports.items() if name in self.nursery]

    def __enter__(self) -> Stack:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Edge workers, verifiers, Redis, broker, in this order. May be called twice."""
        self.nursery.note()
        self.nursery.end(*self._edge_ports)
        self.nursery.end(*self._verifier_ports)
        self.nursery.close()

    def stop_verifiers(self) -> None:
        self.nursery.end(*self._verifier_ports)

    def start_verifiers(self) -> None:
        """Those that do not run; returns when they are ready."""
        for number in range(1, self.options.verifiers + 1):
            name = f"verifier {number}"
            if name not in self.nursery:
                self._start_verifier(name)
        self.wait_ready({name: f"http://127.0.0.1:{port}/readyz" for name, port in self._verifier_ports.items()})

    def revive(self) -> list[str]:
        """Starts again verifiers and embedded Redis that died, as an orchestrator would; one line for each.

        Raises ``CommandError`` where another part died, or one of these died too often.
        """
        said = []
        for child in self.nursery.dead():
            self._deaths[child.name] = self._deaths.get(child.name, 0) + 1
            again = child.name == embedded.REDIS or child.name in self._verifier_ports
            if not again or self._deaths[child.name] > MOST_DEATHS:
                raise CommandError(child.describe_death())
            said.append(f"{child.describe_death()}; starting it again")
            self.nursery.end(child.name)
            if child.name == embedded.REDIS:
                self.start_redis()
            else:
                self._start_verifier(child.name)
        return said

    def stop_redis(self) -> None:
        self.nursery.end(embedded.REDIS)

    def start_redis(self) -> None:
        """At the same address as before, empty."""
        embedded.start_redis(self.nursery, self._redis_server)

    def stop_broker(self) -> None:
        """For good: an embedded broker cannot come back at the same address."""
        self.nursery.end(embedded.BROKER)

    def _start(self) -> None:
        if self.options.kafka is None:
            self.kafka = embedded.start_broker(self.nursery, self.options.broker_rtt_ms)
        if self.options.redis is None:
            self.redis = self._redis_server.url
            self.start_redis()
        for name, port in self._edge_ports.items():
            settings = environment.edge_worker(self.options, self.identities, self.kafka, self.redis, port)
            self.nursery.start(name, [sys.executable, "-m", "services.edge_worker"], settings)
        self.start_verifiers()
        self.wait_ready({name: f"{url}/readyz" for name, url in zip(self._edge_ports, self.urls, strict=True)})

    def _start_verifier(self, name: str) -> None:
        self._verifier_ports[name] = free_port()
        settings = environment.verifier(self.options, self.identities, self.kafka, self.redis, self._verifier_ports[name])
        self.nursery.start(name, [sys.executable, "-m", "services.verifier"], settings)

    def wait_ready(self, waiting: dict[str, str]) -> None:
        """``waiting``: name -> URL that answers 200 once it is ready; it is emptied."""
        end = time.monotonic() + self.options.start_seconds
        with httpx.Client(timeout=2.0, trust_env=False) as client:
            while waiting:
                self.nursery.progress("waiting for " + ", ".join(waiting))
                self.nursery.check()
                for name, url in list(waiting.items()):
                    with contextlib.suppress(httpx.TransportError):
                        if client.get(url).status_code == httpx.codes.OK:
                            del waiting[name]
                if waiting and time.monotonic() > end:
                    raise CommandError(f"{', '.join(waiting)} not ready after {self.options.start_seconds:.0f} s")
                time.sleep(POLL_SECONDS if waiting else 0.0)
