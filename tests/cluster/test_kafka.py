"""The test cluster itself: data survive stop and kill; nothing outlives a killed test run."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.cluster.fixtures import NewKafka

TOPIC = "t"


async def _send(bootstrap: str, *values: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        for value in values:
            await producer.send_and_wait(TOPIC, value, partition=0)


async def _read(bootstrap: str, count: int) -> list[bytes]:
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(TOPIC, 0)])
        return [(await consumer.getone()).value for _ in range(count)]


async def test_data_survive_a_stop_and_a_kill(new_kafka: NewKafka) -> None:
    node = new_kafka()
    address = node.bootstrap
    node.create_topic(TOPIC, 1)
    await _send(address, b"before")
    node.restart()
    await _send(address, b"after a stop")
    node.kill()
    node.start()
    assert node.bootstrap == address
    assert await _read(address, 2) == [b"before", b"after a stop"]


_DIES = """
import os, pathlib, signal, sys
from tests.cluster.kafka import ApacheKafka
print(ApacheKafka(pathlib.Path(sys.argv[1])).start().pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.usefixtures("apache_kafka")
def test_a_killed_test_run_leaves_no_broker_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _DIES, str(tmp_path / "k")]
    pid = int(subprocess.run(command, stdout=subprocess.PIPE, timeout=150, check=False).stdout)
    end = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end, "the broker outlived its test run"
        time.sleep(0.05)
