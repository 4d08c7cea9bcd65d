"""Child processes under care: started, watched, stopped in order, counted afterwards, and never left behind."""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import psutil

from services.cli.errors import CommandError
from services.cli.local.child import Child
from services.cli.local.guard import Guard
from services.cli.local.leftovers import STACK_VARIABLE, Roll


class Nursery:
    """Use as a context manager; leaving it stops every child, the last started first, and deletes ``folder``.

    ``progress`` gets a short text whenever something changes. ``stop_seconds``: time for a child to leave by itself.
    """

    def __init__(self, progress: Callable[[str], None] = lambda _: None, stop_seconds: float = 20.0) -> None:
        self.progress = progress
        self.folder = Path(tempfile.mkdtemp(prefix="sluice-"))
        identity = uuid.uuid4().hex
        # The caller's own environment, so that any knob of a service can be set from outside, and the mark of this nursery.
        # What they and their libraries keep for a while goes with the folder.
        self._environment = {
            **os.environ,
            STACK_VARIABLE: identity,
            "TMPDIR": str(self.folder),
            "PYTHONUNBUFFERED": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        self._stop_seconds = stop_seconds
        self._children: dict[str, Child] = {}
        self._roll = Roll(identity)
        self._guard = Guard(self.folder, self._environment)

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __contains__(self, name: str) -> bool:
        return name in self._children

    def start(self, name: str, command: Sequence[str], settings: Mapping[str, str] | None = None) -> Child:
        """``settings``: environment variables on top of the caller's."""
        log = self.folder / f"{name.replace(' ', '-')}.log"
        child = Child(name, command, {**self._environment, **(settings or {})}, log)
        self._guard.started(child.pid)
        self._children[name] = child
        self._roll.note([child.pid])
        return child

    def check(self) -> None:
        """Raises ``CommandError`` where a child has ended by itself."""
        for child in self.dead():
            raise CommandError(child.describe_death())

    def dead(self) -> list[Child]:
        """Children that have ended by themselves."""
        return [child for child in self._children.values() if child.exit_status() is not None]

    def end(self, *names: str) -> None:
        """Stops all of ``names`` at once and returns when they have ended; names that do not run are ignored."""
        children = [self._children[name] for name in names if name in self._children]
        for child in children:
            self.progress(f"stopping {child.name}")
            child.request_stop()
        end = time.monotonic() + self._stop_seconds
        for child in children:
            child.stop(max(0.0, end - time.monotonic()))
            del self._children[child.name]
            self._guard.ended(child.pid)

    def close(self) -> None:
        """May be called twice."""
        self.note()
        self.end(*reversed(self._children))
        self._guard.close()

    def note(self) -> None:
        """Remembers the processes that run now, for ``leftovers``."""
        self._roll.note([self._guard.pid, *(child.pid for child in self._children.values())])

    def leftovers(self) -> list[psutil.Process]:
        """Processes that were started here, directly or not, and run now; none after ``close``."""
        return self._roll.still_running()
