"""The broker of a scenario: Apache Kafka, or the embedded one where it can do what is asked of it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Protocol

from services.common import keys
from tests.chaos.children import Children
from tests.cluster.kafka import ApacheKafka

SHORTEST_SESSION_MS = 1_000
START_SECONDS = 30.0


class Broker(Protocol):
    """``pause`` freezes it, ``resume`` thaws it; what it had taken is still there."""

    name: str
    embedded: bool
    partitions: int  # of the candidates

    @property
    def bootstrap(self) -> str: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Apache:
    """One node of Apache Kafka that allows short sessions, with the project's topics as an operator makes them."""

    name = "apache"
    embedded = False
    partitions = 6

    def __init__(self, folder: Path) -> None:
        self.node = ApacheKafka(folder, group_min_session_timeout_ms=SHORTEST_SESSION_MS)
        self.node.start()
        self.node.create_topic(keys.CANDIDATES_TOPIC, self.partitions, message_timestamp_type="LogAppendTime")
        self.node.create_topic(keys.DEAD_LETTER_TOPIC, 1)

    @property
    def bootstrap(self) -> str:
        return self.node.bootstrap

    def pause(self) -> None:
        os.kill(self.node.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.node.pid, signal.SIGCONT)

    async def stop(self) -> None:
        await asyncio.to_thread(self.node.stop)

    async def start(self) -> None:
        """At the same address, with its data."""
        await asyncio.to_thread(self.node.start)

    def close(self) -> None:
        self.node.close()


class Embedded:
    """The broker of ``sluice up``. It cannot come back once it has been stopped."""

    name = "embedded"
    embedded = True
    partitions = 4

    def __init__(self, children: Children) -> None:
        self._address = children.folder / "broker-address"
        command = [sys.executable, "-m", "services.cli.local.broker", "--address-file", str(self._address)]
        command += ["--topic", keys.CANDIDATES_TOPIC, "--topic", keys.DEAD_LETTER_TOPIC]
        self._child = children.start(command, {}, "broker.log")

    async def started(self) -> Embedded:
        async with asyncio.timeout(START_SECONDS):
            while not self._address.exists():
                assert self._child.code is None, self._child.said()
                await asyncio.sleep(0.02)
        return self

    @property
    def bootstrap(self) -> str:
        return self._address.read_text().strip()

    def pause(self) -> None:
        self._child.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._child.signal(signal.SIGCONT)
