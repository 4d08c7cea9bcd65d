"""Commands, with one clear line where one fails."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

POLL_SECONDS = 0.25
T = TypeVar("T")


class Failed(RuntimeError):
    """A command or a wait failed; ``str`` is one line, or the end of what the command said."""


def run(
    *command: str,
    stdin: str | None = None,
    seconds: float = 600.0,
    environment: Mapping[str, str] | None = None,
    cwd: str = ".",
) -> str:
    """Standard output of ``command``. ``Failed`` where its exit status is not 0 or it takes longer than ``seconds``."""
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env={**os.environ, **(environment or {})},
            cwd=cwd,
        )
    except FileNotFoundError as error:
        raise Failed(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{' '.join(command)[:200]}: no end after {seconds:.0f} s") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-600:]
        raise Failed(f"{' '.join(command)[:200]} ended with {done.returncode}: {said}")
    return done.stdout


def wait_until(what: str, found: Callable[[], T | None], seconds: float, poll: float = POLL_SECONDS) -> T:
    """What ``found`` returns once that is true. ``Failed`` with ``what`` after ``seconds``; a failed command means not yet."""
    end = time.monotonic() + seconds
    last = ""
    while True:
        try:
            value = found()
        except Failed as error:
            value, last = None, f" ({error})"
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"not within {seconds:.0f} s: {what}{last}")
        time.sleep(poll)
