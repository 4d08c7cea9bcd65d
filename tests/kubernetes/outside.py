"""What lives outside of the cluster, on this machine: Apache Kafka, Valkey, and a port that nobody in the cluster may reach."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from services.cli.local.ports import free_port
from services.cli.local.redis_server import server_binary
from services.common.keys import VERIFIER_GROUP
from tests.cluster.kafka import ApacheKafka
from tests.cluster.properties import password_of
from tests.kubernetes.shell import run, wait_until

PARTITIONS = 16
AUTOSCALER = "policy"  # user of KEDA in the secured Kafka: it has no other use


@dataclass
class Valkey:
    """A server with a password and nothing on disk. ``password`` is of the default user."""

    host: str
    folder: Path
    port: int = field(default_factory=lambda: free_port("127.0.0.1"))
    password: str = field(default_factory=lambda: secrets.token_hex(16))

    def __post_init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    def start(self) -> Valkey:
        settings = [f"bind {self.host}", f"port {self.port}", f"requirepass {self.password}", f"dir {self.folder}"]
        settings += ['save ""', "appendonly no", "maxmemory 256mb", "maxmemory-policy noeviction"]
        file = self.folder / "valkey.conf"
        file.write_text("\n".join(settings) + "\n")
        with (self.folder / "valkey.log").open("wb") as log:
            command = [str(server_binary()), str(file)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        wait_until("Valkey listens", lambda: _listens(self.host, self.port), 20)
        return self

    def close(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)


class Forbidden:
    """A port of this machine that accepts connections, which no pod of ours has any business with."""

    def __init__(self, host: str) -> None:
        self._socket = socket.create_server((host, 0))
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                self._socket.accept()[0].close()
            except OSError:
                return

    def close(self) -> None:
        self._socket.close()


class Outside:
    """All of it, for one address of this machine that pods can reach; ended by ``close``."""

    def __init__(self, host: str, folder: Path) -> None:
        self.host = host
        self._folder = folder
        self._stack = ExitStack()
        self.valkey = Valkey(host, folder)
        self.kafka: ApacheKafka | None = None

    def start(self) -> None:
        self.valkey.start()
        self._stack.callback(self.valkey.close)
        self.forbidden = Forbidden(self.host)
        self._stack.callback(self.forbidden.close)

    def use_kafka(self, *, secure: bool) -> ApacheKafka:
        """A fresh one, instead of the one before; the secured one has exactly the rights that `sluice topics acls` lists, and
        those that docs/kafka.md names for an autoscaler."""
        if self.kafka is not None:
            self.kafka.close()
        folder = self._folder / ("kafka-secure" if secure else "kafka")
        self.kafka = ApacheKafka(folder, secure, self.host, group_min_session_timeout_ms=6000)
        self.kafka.start()
        if secure:
            listed = run(sys.executable, "-m", "services.cli", "topics", "acls", "--json", cwd=str(Path(__file__).parents[2]))
            for arguments in json.loads(listed)["commands"]:
                self.kafka.admin("acls", *arguments)
            describe = ["--add", "--allow-principal", f"User:{AUTOSCALER}", "--operation", "Describe"]
            self.kafka.admin("acls", *describe, "--topic", "sluice.candidates")
            self.kafka.admin("acls", *describe, "--group", VERIFIER_GROUP)
        return self.kafka

    def close(self) -> None:
        if self.kafka is not None:
            self.kafka.close()
        self._stack.close()


def kafka_values(kafka: ApacheKafka) -> dict[str, dict[str, str]]:
    """Contents of the Secrets that the chart refers to, by name."""
    if not kafka.secure:
        return {}
    return {
        "kafka-ca": {"ca.crt": kafka.ca_file.read_text()},
        "kafka-autoscaler": {"password": password_of(AUTOSCALER)},
        "sluice-topics": {"sluice_topics_kafka_password": password_of("operator")},
    }


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
