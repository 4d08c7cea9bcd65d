"""Processes of a scenario: started in groups of their own, and gone when the scenario is, whatever its end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from services.cli.local.guard import Guard

END_SECONDS = 30.0


class Child:
    """One process; its output goes to ``log``."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(command),
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code; ``None`` while it runs."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self, seconds: float = END_SECONDS) -> int:
        """Its exit code; it is killed where it takes longer than ``seconds``, and then ``TimeoutError`` raised."""
        try:
            return await asyncio.to_thread(self._process.wait, seconds)
        except subprocess.TimeoutExpired as error:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
            raise TimeoutError(f"pid {self.pid} did not end within {seconds} s; its log is {self.log}") from error

    def end(self) -> None:
        if self.code is None:
            self._process.kill()
            self._process.wait(END_SECONDS)

    def said(self) -> str:
        return self.log.read_text(errors="replace")


class Children:
    """Use as a context manager. ``folder`` is theirs and is deleted at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._guard = Guard(folder, os.environ)
        self._children: list[Child] = []
        self.started = 0

    def start(self, command: Sequence[str], environment: Mapping[str, str], log: str) -> Child:
        """``log``: name of its log; a number makes it another one for each child."""
        self.started += 1
        child = Child(command, environment, self.folder / f"{self.started}-{log}")
        self._guard.started(child.pid)
        self._children.append(child)
        return child

    def forget(self, child: Child) -> None:
        """It has ended."""
        child.end()
        self._guard.ended(child.pid)
        self._children.remove(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for child in list(self._children):
            self.forget(child)
        self._guard.close()
