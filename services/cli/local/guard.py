"""The supervisor's end of the reaper (see ``reaper``)."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


class Guard:
    """Knows what must not outlive the supervisor; the process behind it sees to that, also after a `kill -9`."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """``folder`` is deleted at the end, whatever the end is."""
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.cli.local.reaper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(environment),
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._tell(f"folder {folder}")

    def started(self, group: int) -> None:
        self._tell(f"group {group}")

    def ended(self, group: int) -> None:
        self._tell(f"gone {group}")

    def close(self) -> None:
        """May be called twice. Deletes the folder; returns when the reaper has ended."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._tell(f"deleted {self._folder}")
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(line + "\n")
