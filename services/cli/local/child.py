"""One child process in a process group of its own, with its log in a file."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_LOG_TAIL_BYTES = 64 * 1024


def clear_line(line: str) -> str:
    """A log line as a person would say it: without colours, and of a JSON record only its event and error."""
    line = _ESCAPES.sub("", line).strip()
    with contextlib.suppress(ValueError):
        record = json.loads(line)
        if isinstance(record, dict):
            words = [str(record[key]) for key in ("event", "error", "reason", "exception") if record.get(key)]
            return ": ".join(words).splitlines()[0] if words else line
    return line


def last_clear_line(log: Path) -> str:
    """The last line of ``log`` that says something; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return next((text for text in map(clear_line, reversed(lines)) if text), "")


class Child:
    """Started at once; ``stop`` ends it and everything it started."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(command),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C reaches the supervisor alone, which stops the parts in order
            )
        self.pid = self._process.pid

    def exit_status(self) -> int | None:
        """``None`` while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def describe_death(self) -> str:
        """Name, exit status and last log line, in one line."""
        status = self._process.poll()
        how = (
            f"was ended by {signal.Signals(-status).name}"
            if status is not None and status < 0
            else f"ended with status {status}"
        )
        said = last_clear_line(self.log)
        return f"{self.name} {how}" + (f": {said}" if said else "")

    def request_stop(self) -> None:
        self._process.terminate()  # does nothing to one that has ended

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within ``seconds``."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, grace_seconds: float) -> bool:
        """SIGTERM, up to ``grace_seconds``, then SIGKILL to the whole group. Whether it left by itself."""
        self.request_stop()
        orderly = self.wait(grace_seconds)
        self.kill()
        return orderly

    def kill(self) -> None:
        """SIGKILL to the group; returns when the child has ended and been waited for."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
