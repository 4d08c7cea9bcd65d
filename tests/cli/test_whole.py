"""The demo and `sluice up` as a user runs them, on the default pair of models."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from services.cli.client import ApiClient
from services.common.catalogue import Service
from tests.metrics.exposition import complaints

SLUICE = [sys.executable, "-m", "services.cli"]
KEYS = {
    "answers": None,
    "mode": None,
    "tokens": {"skipped", "accepted", "corrected", "bonus", "unverified", "total"},
    "rounds": None,
    "passes_per_token": None,
    "uplink_bytes": None,
    "uplink_bytes_per_token": None,
    "upload_rate": None,
    "damage": None,
    "acceptance": None,
    "tokens_per_second": {"sluice", "llm_only", "slm_only"},
    "loop_lag_p99_seconds": {"edge_worker", "verifier"},
    "leftover_processes": None,
    "outage": {"tokens", "degraded", "recovered", "recovery_seconds", "tokens_after"},
}


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Where the command keeps temporary files; it must be empty in the end."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.timeout(400)
def test_the_demo_prints_one_object_and_leaves_nothing(scratch: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(scratch)}
    command = [*SLUICE, "demo", "--json", "--max-tokens", "32"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert set(figures) == set(KEYS)
    for key, inner in KEYS.items():
        assert inner is None or set(figures[key]) == inner
    tokens = figures["tokens"]
    assert figures["answers"] == 3
    assert tokens["total"] == sum(tokens.values()) - tokens["total"] > 0
    assert tokens["unverified"] == 0
    assert figures["upload_rate"] == pytest.approx((tokens["accepted"] + tokens["corrected"]) / tokens["total"], abs=1e-6)
    assert figures["uplink_bytes"] > 20 * (tokens["accepted"] + tokens["corrected"])
    assert 0 <= figures["damage"] < 1
    assert all(speed > 0 for speed in figures["tokens_per_second"].values())
    assert all(lag is not None and lag < 0.1 for lag in figures["loop_lag_p99_seconds"].values())
    assert figures["outage"]["tokens"]["unverified"] > 0
    assert figures["outage"]["degraded"]
    assert figures["outage"]["recovered"] is True
    assert figures["leftover_processes"] == 0
    assert list(scratch.iterdir()) == []


@pytest.mark.timeout(400)
def test_up_survives_a_killed_verifier_and_its_own_kill_leaves_nothing(scratch: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(scratch)}
    command = [*SLUICE, "up", "--json", "--port", "0", "--verifiers", "1"]
    with (scratch.parent / f"{scratch.name}.err").open("w+") as said:
        up = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, env=environment)
        try:
            assert up.stdout is not None
            line = up.stdout.readline()
            said.seek(0)
            assert line, said.read()
            place = json.loads(line)
            client = ApiClient(place["url"])
            assert _judged(client) > 0
            assert complaints(client.metrics(), Service.EDGE) == []
            _children(up.pid, "services.verifier")[0].kill()
            _wait_until(lambda: "starting it again" in Path(said.name).read_text(), 30)
            _wait_until(lambda: _judged(client) > 0, 120)
            processes = psutil.Process(up.pid).children(recursive=True)
            assert len(processes) >= 5  # broker, Redis, reaper, verifier, edge worker
            client.close()
        finally:
            os.kill(up.pid, signal.SIGKILL)
            up.communicate()
            Path(said.name).unlink()
        _, alive = psutil.wait_procs(processes, timeout=20)
        assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
        _wait_until(lambda: list(scratch.iterdir()) == [], 10)


def _judged(client: ApiClient) -> int:
    """Candidates judged in one answer that asks about every token."""
    reply = client.chat([{"role": "user", "content": "Hello"}], max_tokens=16, seed=1, sluice={"gamma": 0.0, "deadline": 20.0})
    return int(reply.summary["judged"])


def _children(pid: int, module: str) -> list[psutil.Process]:
    return [child for child in psutil.Process(pid).children(recursive=True) if module in child.cmdline()]


def _wait_until(holds: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)
