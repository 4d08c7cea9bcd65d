"""What the user of the command hears when something is wrong: one line and exit status 2."""

from __future__ import annotations

import socket
import subprocess
import sys
from importlib import metadata

import pytest


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if not line.startswith("…")]
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_version() -> None:
    done = run("--version")
    assert done.stdout.strip() == f"sluice {metadata.version('sluice')}"


def test_a_taken_port_is_named_before_anything_starts() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert one_line(run("up", "--port", str(port))) == (
            f"sluice: port {port} on 127.0.0.1 is taken; choose another with --port"
        )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("up", "--port", "99999"), "--port must be between 1 and 65535"),
        (("up", "--verifiers", "0"), "--verifiers must be at least 1"),
        (("up", "--verifiers", "5", "--port", "0"), "4 partitions"),
        (("up", "--preset", "nonsense", "--port", "0"), "unknown preset 'nonsense'"),
        (("up", "--port", "0", "--host", "203.0.113.9"), "cannot listen on 203.0.113.9: "),
        (("chat", "-m", "hi", "--url", "http://127.0.0.1:1"), "start one with `sluice up`"),
        (("chat", "-m", "hi", "--url", "nonsense"), "is not an address"),
    ],
)
def test_bad_input_ends_in_one_line(arguments: tuple[str, ...], said: str) -> None:
    assert said in one_line(run(*arguments))


def test_an_unknown_model_ends_in_one_line_and_leaves_nothing() -> None:
    line = one_line(run("up", "--port", "0", "--draft", "/nonsense/model.gguf"))
    assert "/nonsense/model.gguf" in line
