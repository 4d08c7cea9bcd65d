"""Bad settings: one clear line and exit code 2, before anything heavy is imported."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from services.common.settings import ConfigError, load, usable_cores
from services.verifier.settings import VerifierSettings

PREFIX = "SLUICE_VERIFIER_"


def run(**variables: str) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ) | {PREFIX + name: value for name, value in variables.items()}
    return subprocess.run(
        [sys.executable, "-m", "services.verifier"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"MAX_BATCH_SESSIONS": "9", "SLOTS": "8"}, "exceeds SLOTS"),
        ({"EMBEDDED": "1", "FETCH_MAX_WAIT_MS": "500"}, "embedded broker would delay"),
        ({"VERDICT_TTL_S": "60"}, "above 600"),
        ({"CAPACITY_TOKENS": "128"}, "SLUICE_VERIFIER_CAPACITY_TOKENS.*greater than 128"),
        ({"SLOTS": "many"}, "SLUICE_VERIFIER_SLOTS"),
        ({"METRICS_PORT": "70000"}, "SLUICE_VERIFIER_METRICS_PORT"),
    ],
)
def test_contradictions_and_bad_values_are_named(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], told: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(ConfigError, match=told) as caught:
        load(VerifierSettings)
    assert "\n" not in str(caught.value)


def test_every_knob_says_what_it_does() -> None:
    assert [name for name, field in VerifierSettings.model_fields.items() if not field.description] == []


def test_defaults_are_consistent_and_the_embedded_broker_gets_short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(VerifierSettings).fetch_wait_ms == 500
    monkeypatch.setenv(PREFIX + "EMBEDDED", "true")
    assert load(VerifierSettings).fetch_wait_ms <= 2
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


def test_the_process_ends_with_one_line_and_exit_code_2() -> None:
    done = run(SLOTS="0")
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    assert "SLUICE_VERIFIER_SLOTS" in lines[0]


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run(METRICS_PORT=port)
    assert done.returncode == 2
    assert f"127.0.0.1:{port}" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_an_unknown_model_is_named() -> None:
    done = run(MODEL="/nowhere/model.gguf", METRICS_PORT="0")
    assert done.returncode == 2
    assert "/nowhere/model.gguf" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
