"""Cleans up after a supervisor that died without cleaning up itself (`kill -9`): `python -m services.cli.local.reaper`.

It reads its standard input, the other end of which only the supervisor holds, and remembers: `group N` a process group,
`gone N` one that ended, `folder PATH` a folder to delete, `deleted PATH` one that is gone. At the end of the input (the
supervisor ended, in whatever way) it stops what is left: SIGTERM, a grace period, SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable

GRACE_SECONDS = 3.0


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS says so of a group of zombies
        return False
    return True


def read(lines: Iterable[str]) -> tuple[list[int], list[str]]:
    """Process groups and folders still there at the end of ``lines``, in the order in which they came."""
    groups: dict[int, None] = {}
    folders: dict[str, None] = {}
    for line in lines:
        word, _, value = line.rstrip("\n").partition(" ")
        if word == "group":
            groups[int(value)] = None
        elif word == "gone":
            groups.pop(int(value), None)
        elif word == "folder":
            folders[value] = None
        elif word == "deleted":
            folders.pop(value, None)
    return list(groups), list(folders)


def clean(groups: list[int], folders: list[str], grace_seconds: float = GRACE_SECONDS) -> None:
    """Ends the groups, the last started first, then deletes the folders."""
    for group in reversed(groups):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGTERM)
    end = time.monotonic() + grace_seconds
    while any(_alive(group) for group in groups) and time.monotonic() < end:
        time.sleep(0.05)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    # A Ctrl-C or a closed terminal ends the supervisor; the reaper must outlive it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    clean(*read(sys.stdin))
    return 0


if __name__ == "__main__":
    sys.exit(main())
