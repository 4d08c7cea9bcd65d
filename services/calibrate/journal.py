"""Answers in a file of JSON lines, so that a run that was interrupted goes on where it stopped.

The first line is a header that says what the answers belong to. A file with another header is refused: its answers are those of
another policy.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from services.calibrate.trace import Answer

Header = dict[str, Any]
Key = tuple[int, float]  # prompt, threshold


class JournalError(ValueError):
    """``str`` is one line that says what to do."""


class Journal:
    """Append-only; use as a context manager. ``answers`` are those that were already there, and those added."""

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.header = path, header
        self.answers: dict[Key, Answer] = {}
        self._file: IO[str] | None = None

    def __enter__(self) -> Journal:
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

    def add(self, answer: Answer) -> None:
        line = answer.to_json()
        self._write(line)
        self.answers[(answer.prompt, answer.threshold)] = Answer.from_json(line)  # rounded, as a later run will read it

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
            found = [Answer.from_json(json.loads(line)) for line in lines[1:]]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise JournalError(f"{self.path} is no record of `sluice calibrate`: name another --work folder") from error
        wanted = json.loads(json.dumps(self.header))
        if header != wanted:
            names = [name for name in {**wanted, **header} if header.get(name) != wanted.get(name)]
            raise JournalError(
                f"{self.path} was recorded with other {', '.join(sorted(names))}: name another --work folder or remove the file"
            )
        self.answers = {(a.prompt, a.threshold): a for a in found}
        return whole
