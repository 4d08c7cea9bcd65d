"""One Apache Kafka node (KRaft) on this machine: start, stop, kill, start again on the same data."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import uuid
from pathlib import Path
from typing import IO

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from services.cli.local.guard import Guard
from services.cli.local.ports import free_port
from tests.cluster import properties
from tests.cluster.jars import kafka_jars

START_SECONDS = 150.0
STOP_SECONDS = 30.0
TOOL_SECONDS = 120.0
_STARTED = "Kafka Server started"
_HEAP = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC")
_QUICK = ("-XX:TieredStopAtLevel=1", "-Xshare:auto")  # short-lived tools: starting costs more than running
_TOOLS = {
    "topics": "org.apache.kafka.tools.TopicCommand",
    "acls": "org.apache.kafka.tools.AclCommand",
    "groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "configs": "kafka.admin.ConfigCommand",
}


class ApacheKafka:
    """A node whose data, certificates and logs (``kafka-1.log``, ``kafka-2.log``, ... one for each start) lie in ``folder``.

    ``secure``: clients log in by SASL_SSL with SCRAM-SHA-512 as one of ``properties.USERS`` (``password_of``), trust
    ``ca_file``, and may do only what an ACL allows; ``admin`` may do all. ``host``: the address of this machine that clients
    use. ``broker_settings``: Kafka's own, with ``_`` for ``.`` (``group_min_session_timeout_ms=1000``). Raises ``Unavailable``
    where Apache Kafka cannot be had.
    """

    def __init__(self, folder: Path, secure: bool = False, host: str = "127.0.0.1", **broker_settings: object) -> None:
        self.folder = folder
        self.secure = secure
        self.host = host
        self._jars = kafka_jars()
        self._settings = {name.replace("_", "."): _value(value) for name, value in broker_settings.items()}
        self._ports = (0, 0, 0)
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None

    # -- where it is --------------------------------------------------------------------------------------------------

    @property
    def bootstrap(self) -> str:
        """``host:port`` for clients; the same after a restart."""
        return f"{self.host}:{self._ports[0]}"

    @property
    def plain_bootstrap(self) -> str:
        """``host:port`` of the listener without TLS and login, where one may do all: for tests' own use."""
        return f"127.0.0.1:{self._ports[2]}" if self.secure else self.bootstrap

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def client_cert_file(self) -> Path:
        """Certificate and key of a client, for ``listener_name_client_ssl_client_auth="required"``."""
        return self.folder / "client.pem"

    @property
    def log(self) -> Path:
        """The log of the last start."""
        return self.folder / f"kafka-{self._starts}.log"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the node has not been started"
        return self._process.pid

    # -- life cycle ---------------------------------------------------------------------------------------------------

    def start(self) -> ApacheKafka:
        """Returns when clients may connect. Raises ``RuntimeError`` with the end of the log where it does not come up."""
        assert not self.running, "already running"
        if not (self.folder / "data").exists():
            self._format()
        self._starts += 1
        command = ["java", *_HEAP, f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"]
        command += ["-cp", f"{self._jars}/*", "kafka.Kafka", str(self.folder / "server.properties")]
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        if self._guard is None:  # a killed test run leaves no broker behind
            self._guard = Guard(self.folder / "guard", os.environ)
        self._guard.started(self._process.pid)
        self._await_start()
        return self

    def stop(self) -> None:
        """Clean stop; does nothing where it is not running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a crash: SIGKILL. The data stays for the next ``start``."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """The end: SIGKILL, and nothing watches it any more."""
        self.kill()
        if self._guard is not None:
            self._guard.close()
            self._guard = None

    # -- Kafka's own tools --------------------------------------------------------------------------------------------

    def admin(self, tool: str, *arguments: str) -> str:
        """Output of Kafka's ``topics``, ``acls``, ``groups`` or ``configs`` tool. Raises ``RuntimeError`` if it fails."""
        return self._java([*_QUICK], _TOOLS[tool], "--bootstrap-server", self.plain_bootstrap, *arguments)

    def create_topic(self, name: str, partitions: int = 4, **settings: object) -> None:
        """``settings``: the topic's own, with ``_`` for ``.``."""
        config = {key.replace("_", "."): _value(value) for key, value in settings.items()}
        admin = AdminClient({"bootstrap.servers": self.plain_bootstrap})
        admin.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(TOOL_SECONDS)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _format(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not any(self._ports):  # a node that has lost its data is found where it was
            self._ports = _three_ports()
        properties.write(self.folder, self.host, self._ports, self.secure, self._settings)
        users = properties.USERS if self.secure else ()
        scram = [
            part
            for user in users
            for part in ("--add-scram", f"{properties.MECHANISM}=[name={user},password={properties.password_of(user)}]")
        ]
        cluster = uuid.uuid4().hex[:22]
        server = str(self.folder / "server.properties")
        self._java([*_QUICK], "kafka.tools.StorageTool", "format", "-t", cluster, "-c", server, *scram)

    def _java(self, options: list[str], name: str, *arguments: str) -> str:
        done = subprocess.run(
            ["java", *options, "-cp", f"{self._jars}/*", name, *arguments],
            capture_output=True,
            text=True,
            timeout=TOOL_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{name} {' '.join(arguments)} failed: {done.stdout[-2000:]} {done.stderr[-2000:]}")
        return done.stdout

    def _await_start(self) -> None:
        end = time.monotonic() + START_SECONDS
        with self.log.open() as lines:
            while not self._says_started(lines):
                if not self.running or time.monotonic() > end:
                    tail = self.log.read_text(errors="replace")[-3000:]
                    self.close()
                    raise RuntimeError(f"Apache Kafka did not start; the end of {self.log}:\n{tail}")
                time.sleep(0.02)
        with socket.create_connection((self.host, self._ports[0]), timeout=5):
            pass

    @staticmethod
    def _says_started(lines: IO[str]) -> bool:
        return any(_STARTED in line for line in lines)

    def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_SECONDS)
        if self._guard is not None:
            self._guard.ended(process.pid)
        self._process = None


def _three_ports() -> tuple[int, int, int]:
    ports: set[int] = set()
    while len(ports) < 3:  # a port that is free may be offered twice
        ports.add(free_port())
    first, second, third = ports
    return first, second, third


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
