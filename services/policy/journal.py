"""The decision log as JSON lines: a file that is renamed at a size, or the service's log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from services.common.settings import ConfigError


class DecisionLog:
    """``path`` ``None``: to the log. A file that cannot be written any more is told once; the decisions go on."""

    def __init__(self, path: Path | None, most_bytes: int) -> None:
        self._path, self._most = path, most_bytes
        self._failed = False
        self._log = structlog.get_logger()
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.open("a").close()
            except OSError as error:
                raise ConfigError(f"SLUICE_POLICY_LOG_FILE: {path} cannot be written: {error.strerror}") from error

    def write(self, entries: Sequence[Mapping[str, Any]]) -> None:
        if self._path is None:
            for entry in entries:
                self._log.info("decision", **entry)
            return
        try:
            if self._path.exists() and self._path.stat().st_size >= self._most:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
            with self._path.open("a") as file:
                file.writelines(json.dumps(entry, separators=(",", ":")) + "\n" for entry in entries)
            self._failed = False
        except OSError as error:
            if not self._failed:
                self._failed = True
                self._log.warning("the decision log cannot be written", file=str(self._path), error=str(error.strerror))
