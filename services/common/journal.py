"""Results in a file of JSON lines, so that a run that was interrupted goes on where it stopped.

The first line is a header that says what the results belong to. A file with another header is refused: its results are those of
another run.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Hashable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Generic, Self, TypeVar

Header = dict[str, Any]
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class JournalError(ValueError):
    """``str`` is one line that says what to do."""


class Lines(ABC, Generic[Key, Value]):
    """Append-only; use as a context manager. ``found``: what was already there, and what was added.

    ``command``: whose record it is, for messages.
    """

    command: str

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.header = path, header
        self.found: dict[Key, Value] = {}
        self._file: IO[str] | None = None

    @abstractmethod
    def key(self, value: Value) -> Key: ...

    @abstractmethod
    def to_json(self, value: Value) -> Any: ...

    @abstractmethod
    def from_json(self, raw: Any) -> Value:
        """Raises ``ValueError``, ``KeyError``, ``TypeError`` or ``IndexError`` where it is none."""

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            whole = self._read() if self.path.exists() else 0
            self._file = self.path.open("a+")
            self._file.truncate(whole)  # a line that was cut off in writing is written again
        except OSError as error:
            raise JournalError(f"{self.path} cannot be written: {error.strerror}") from error
        if not whole:
            self._write(self.header)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def add(self, value: Value) -> None:
        line = self.to_json(value)
        self._write(line)
        self.found[self.key(value)] = self.from_json(json.loads(json.dumps(line)))  # as a later run will read it

    def _write(self, value: Any) -> None:
        if self._file is None:
            raise RuntimeError("the journal is not open")
        self._file.write(json.dumps(value, separators=(",", ":")) + "\n")
        self._file.flush()

    def _read(self) -> int:
        """Take over what is there; the bytes of its whole lines."""
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        lines = data[:whole].splitlines()
        if not lines:
            return 0
        try:
            header = json.loads(lines[0])
            found = [self.from_json(json.loads(line)) for line in lines[1:]]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise JournalError(f"{self.path} is no record of `{self.command}`: name another --work folder") from error
        wanted = json.loads(json.dumps(self.header))
        if header != wanted:
            names = [name for name in {**wanted, **header} if header.get(name) != wanted.get(name)]
            raise JournalError(
                f"{self.path} was recorded with other {', '.join(sorted(names))}: name another --work folder or remove the file"
            )
        self.found = {self.key(value): value for value in found}
        return whole
