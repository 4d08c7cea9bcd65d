"""The loop on real processes: broker, Redis, verifier, edge worker, a real Prometheus, the policy, a load that steps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from services.cli.local.debian import Unavailable
from services.cli.local.prometheus_server import program
from services.cli.loop.plan import FLEETS, Times
from services.cli.loop.record import Reader
from services.cli.loop.site import Site
from services.common.catalogue import edge

PATIENCE_SECONDS = 90.0  # a loaded machine; usually seconds
SMALL = replace(
    FLEETS["synthetic"],
    edge_workers=1,
    verifiers=1,
    clients=8,
    max_tokens=24,
    damage=0.2,
    edge={"SESSIONS": "64", "SYNTHETIC_STEP_MS": "60"},
)


@pytest.fixture(scope="module", autouse=True)
def prometheus() -> None:
    try:
        program()
    except Unavailable as reason:
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"Prometheus is needed with CI=true: {reason}")
        pytest.skip(f"Prometheus cannot be had: {reason}")


class Log:
    """The policy's decisions as they come."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.entries: list[dict[str, Any]] = []

    def wait(self, what: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first decision from now on for which ``holds``."""
        end, seen = time.monotonic() + PATIENCE_SECONDS, len(self.entries)
        while True:
            self.entries += self._site.new_decisions()
            for entry in self.entries[seen:]:
                if holds(entry):
                    return entry
            seen = len(self.entries)
            for child in self._site.nursery.dead():
                pytest.fail(child.describe_death())
            assert time.monotonic() < end, f"{what}: not seen; last: {self.entries[-1:]}"
            time.sleep(0.05)


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(SMALL, Times(speed=5.0)) as found:
        yield found
    assert found.nursery.leftovers() == []


@pytest.mark.timeout(400)
def test_a_step_of_the_load_moves_the_knobs_which_stay_while_prometheus_is_away(site: Site) -> None:
    log = Log(site)
    site.start_load([(0.0, 1.0), (5.0, 6.0)], 600.0, seed=1)
    quiet = log.wait("control", lambda e: e["source"] == "control")
    breach = log.wait(
        "a move against the load",
        lambda e: e["source"] == "control" and "pool budget" in e["reason"] and e["old"] != [e["k"], e["gamma"]],
    )
    assert breach["at"] > quiet["at"]
    assert breach["k"] > breach["old"][0] or breach["gamma"] > breach["old"][1], "fewer rounds"
    assert breach["inputs"]["utilisation"][0] > 0.0
    with closing(Reader(site.prometheus.url)) as reader:
        _edges_follow(log, reader)
    site.stop_prometheus()
    held = log.wait("a hold", lambda e: e["source"] == "hold")
    assert [held["k"], held["gamma"]] == held["old"]
    site.start_prometheus()
    back = log.wait("control again", lambda e: e["source"] == "control")
    assert back["version"] > held["version"] > breach["version"]
    site.stop_load()
    load = site.load()
    assert load is not None
    assert load["stopped_early"]
    assert load["tokens"]["accepted"] > 0
    assert load["answers"]["failed"] == 0, load["errors"]


def _edges_follow(log: Log, reader: Reader) -> None:
    """What the edge worker says it goes by, through Prometheus, is one of the last decisions."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        log.entries += log._site.new_decisions()
        decided = {(e["k"], round(e["gamma"], 4)) for e in log.entries[-20:] if e["source"] == "control"}
        k, gamma = reader.now(edge.KNOB_K.series), reader.now(edge.KNOB_GAMMA.series)
        if k is not None and gamma is not None and (int(k), round(gamma, 4)) in decided:
            return
        assert time.monotonic() < end, f"the edge goes by {k}, {gamma}; decided was {decided}"
        time.sleep(0.2)


@pytest.mark.timeout(200)
def test_ctrl_c_stops_everything() -> None:
    command = [sys.executable, "-m", "services.cli", "loop", "--fleet", "synthetic"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if "waiting for" in line)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().splitlines()
    assert process.returncode == 2
    assert said[-1] == "sluice: stopped; everything was shut down"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--fleet", "phones"], "unknown fleet 'phones': choose one of models, synthetic"),
        (["--prometheus", "/nowhere/prometheus"], "/nowhere/prometheus is no program; install one"),
    ],
)
def test_wrong_use_is_told_in_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    from services.cli.main import app

    with pytest.raises(SystemExit) as ended:
        app(["loop", *arguments])
    assert ended.value.code == 2
    told = capsys.readouterr().err.splitlines()
    assert says in told[-1]
