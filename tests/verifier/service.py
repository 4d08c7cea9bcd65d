"""A verifier as its operator starts it: a process, its environment, its port."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition

from services.common import keys


class VerifierProcess:
    """``python -m services.verifier`` on the default target in float32, one thread."""

    def __init__(self, bootstrap: str, redis_url: str, log: Path, **knobs: str) -> None:
        values = {
            "KAFKA_BOOTSTRAP": bootstrap,
            "REDIS_URL": redis_url,
            "EMBEDDED": "true",
            "DTYPE": "float32",
            "DEVICE": "cpu",
            "THREADS": "1",
            "SLOTS": "4",
            "MAX_BATCH_SESSIONS": "4",
            "CAPACITY_TOKENS": "256",
            "PREFILL_CHUNK_TOKENS": "32",
        } | knobs
        environment = dict(os.environ) | {f"SLUICE_VERIFIER_{name}": value for name, value in values.items()}
        self.log = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen([sys.executable, "-m", "services.verifier"], env=environment, stderr=stream)

    def port(self, seconds: float = 120.0) -> int:
        """The port that it has chosen and logged."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for line in self.log.read_text().splitlines():
                if '"metrics and health"' in line:
                    return int(line.split('"port": ')[1].split(",")[0])
            time.sleep(0.05)
        raise AssertionError(f"no port in {seconds} s: {self.log.read_text()}")

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port()}{path}", timeout=60)

    def wait_ready(self, ready: bool = True, seconds: float = 300.0) -> None:
        end = time.monotonic() + seconds
        while (self.get("/readyz").status_code == 200) != ready:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, f"ready is not {ready} after {seconds} s: {self.log.read_text()}"
            time.sleep(0.1)

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        lines = self.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


async def committed(bootstrap: str) -> int:
    """The sum of the group's committed offsets."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=keys.VERIFIER_GROUP, enable_auto_commit=False)
    consumer.assign([TopicPartition(keys.CANDIDATES_TOPIC, p) for p in range(4)])
    await consumer.start()
    try:
        return sum([await consumer.committed(tp) or 0 for tp in consumer.assignment()])
    finally:
        await consumer.stop()
