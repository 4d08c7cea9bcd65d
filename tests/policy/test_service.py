"""The service and its commands as an operator uses them: a process on a real Valkey, no Prometheus."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.main import app
from services.cli.policy import _seconds
from services.common.settings import ConfigError, load
from services.policy.settings import PolicySettings

CLI = CliRunner()


def sluice(*arguments: str) -> str:
    done = CLI.invoke(app, ["policy", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.timeout(120)
def test_it_publishes_follows_a_hand_and_leaves_in_order(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICE_POLICY_REDIS_URL", redis_url)
    knobs = {
        "PROMETHEUS_URL": "http://127.0.0.1:1",
        "DECIDE_SECONDS": "0.2",
        "SCRAPE_SECONDS": "1",
        "WINDOW_SECONDS": "3",
        "FAST_SECONDS": "2",
        "LOG_FILE": str(tmp_path / "decisions.jsonl"),
    }
    environment = dict(os.environ) | {f"SLUICE_POLICY_{name}": value for name, value in knobs.items()}
    process = subprocess.Popen([sys.executable, "-m", "services.policy"], env=environment, stderr=subprocess.DEVNULL)
    try:
        wait(lambda: json.loads(sluice("show", "--json"))["policy"] is not None, process)
        sluice("set", "default", "--k", "3", "--gamma", "0.25", "--for", "5m", "--reason", "trial")
        wait(lambda: json.loads(sluice("show", "--json"))["policy"]["classes"]["default"]["source"] == "override", process)
        shown = json.loads(sluice("show", "--json"))
        assert (shown["policy"]["classes"]["default"]["k"], shown["policy"]["classes"]["default"]["gamma"]) == (3, 0.25)
        assert 200.0 < shown["overrides"]["default"]["left_seconds"] <= 300.0
        sluice("set", "default", "--clear")
        wait(lambda: json.loads(sluice("show", "--json"))["policy"]["classes"]["default"]["source"] == "hold", process)
        changes = json.loads(sluice("history", "--limit", "500", "--changes", "--json"))["decisions"]
        assert any("trial" in entry["reason"] for entry in changes)
        assert "trial" in sluice("history", "--limit", "500")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        lines = (tmp_path / "decisions.jsonl").read_text().splitlines()
        versions = [json.loads(line)["version"] for line in lines]
        assert versions == sorted(versions)
    finally:
        process.kill()


def wait(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60.0
    while not condition():
        assert process.poll() is None, "the service ended"
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("WINDOW_SECONDS", "10", "three times SCRAPE_SECONDS"),
        ("FAST_SECONDS", "30", "FAST_SECONDS must lie"),
        ("LEASE_MS", "2000", "LEASE_MS below twice"),
        ("SAFE_GAMMA", "3", "SLUICE_POLICY_SAFE_GAMMA"),
        ("GAMMA_MAX", "0.5", "SAFE_GAMMA must lie"),
        ("EDGES", "edge-worker", "SLUICE_POLICY_EDGES"),
        ("PROMETHEUS_URL", "nowhere", "SLUICE_POLICY_PROMETHEUS_URL"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"SLUICE_POLICY_{name}", value)
    with pytest.raises(ConfigError, match=says):
        load(PolicySettings)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90.0), ("10m", 600.0), ("2h", 7200.0), ("45", 45.0)])
def test_times_are_read(text: str, seconds: float) -> None:
    assert _seconds(text) == seconds


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["set", "default"], "nothing to set"),
        (["set", "no class", "--k", "2"], "no device class"),
        (["set", "default", "--k", "2", "--for", "soon"], "a time like"),
    ],
)
def test_wrong_use_is_told_in_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        app(["policy", *arguments])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1
