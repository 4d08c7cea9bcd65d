"""A Redis Cluster of three real Valkey servers on loopback, without replicas and without disk."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis import Redis
from redis.exceptions import ConnectionError

from services.cli.local.ports import free_port
from services.cli.local.redis_server import server_binary

NODES = 3
SLOTS = 16384
START_SECONDS = 30.0


class Node:
    """One server of the cluster."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.bus = free_port()
        folder.mkdir()
        knobs = f"""
            bind 127.0.0.1
            port {self.port}
            cluster-enabled yes
            cluster-port {self.bus}
            cluster-config-file nodes.conf
            cluster-node-timeout 2000
            dir {folder}
            save ""
            appendonly no
            maxmemory-policy noeviction
        """
        file = folder / "node.conf"
        file.write_text("\n".join(line.strip() for line in knobs.strip().splitlines()) + "\n")
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen([str(server_binary()), str(file)], stdout=log, stderr=log)
        self.log = folder / "log"
        self.client: Any = Redis(port=self.port)

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return bool(self.client.ping())
        except ConnectionError:
            return False

    def agrees(self) -> bool:
        """Does it know all nodes, and that each slot is served?"""
        info: dict[str, Any] = self.client.cluster("INFO")
        return info["cluster_state"] == "ok" and int(info["cluster_size"]) == NODES

    def stop(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait(10)


class RedisCluster:
    """Use as a context manager: entering starts it and waits until every node agrees."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.nodes: list[Node] = []

    @property
    def url(self) -> str:
        """Of one node, from which a client learns of the others."""
        return f"redis://127.0.0.1:{self.nodes[0].port}"

    def __enter__(self) -> Self:
        try:
            for number in range(NODES):
                self.nodes.append(Node(self._folder / str(number)))
            _until(lambda: all(node.answers() for node in self.nodes))
            for number, node in enumerate(self.nodes):
                first, last = number * SLOTS // NODES, (number + 1) * SLOTS // NODES - 1
                node.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            for node in self.nodes[1:]:
                self.nodes[0].client.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus)
            _until(lambda: all(node.agrees() for node in self.nodes))
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        while self.nodes:
            self.nodes.pop().stop()


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < end, f"the cluster is not ready after {START_SECONDS} s"
        time.sleep(0.02)
