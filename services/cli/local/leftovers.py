"""Which processes of a stack still run: counted, not assumed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import psutil

STACK_VARIABLE = "SLUICE_STACK"


class Roll:
    """Remembers every process of a stack that it was shown, with what these started."""

    def __init__(self, stack: str) -> None:
        """``stack``: the value of ``STACK_VARIABLE`` in the environment of its processes."""
        self._stack = stack
        self._seen: set[psutil.Process] = set()

    def note(self, pids: Iterable[int]) -> None:
        for pid in pids:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                self._seen.add(process)
                self._seen.update(process.children(recursive=True))

    def still_running(self) -> list[psutil.Process]:
        """Those that run now: the remembered ones, and any other process that inherited the stack's environment."""
        found = {process for process in self._seen if _runs(process)}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(STACK_VARIABLE) == self._stack and _runs(process):
                    found.add(process)
        return sorted(found, key=lambda process: process.pid)


def _runs(process: psutil.Process) -> bool:
    # psutil compares start times, so a reused number is not taken for the old process.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
