"""The policy service as its operator starts it: what it shows is what the catalogue says that it owns. Without Redis and
Prometheus: they need not be there for that."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import httpx

from services.common.catalogue import Service
from tests.metrics.exposition import complaints

NOBODY = "127.0.0.1:1"


def test_it_shows_what_it_owns_and_nothing_else() -> None:
    values = {"REDIS_URL": f"redis://{NOBODY}/0", "PROMETHEUS_URL": f"http://{NOBODY}"}
    environment = dict(os.environ) | {f"SLUICE_POLICY_{name}": value for name, value in values.items()}
    process = subprocess.Popen([sys.executable, "-m", "services.policy"], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        port = next(json.loads(line)["port"] for line in process.stderr if '"metrics and health"' in line)
        shown = next(line for line in process.stderr if '"link down' in line)  # it has tried a turn: all metrics are there
        assert shown
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
        assert complaints(text, Service.POLICY) == []
        assert 'sluice_link_up{link="redis"} 0.0' in text
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0
