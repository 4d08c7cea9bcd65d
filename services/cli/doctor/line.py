"""One line of the report."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass


class State(enum.StrEnum):
    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"  # may not be asked with these rights, say


@dataclass(frozen=True)
class Line:
    """``service``: `edge`, `verifier`; ``what`` was checked; ``detail``: what was found, or what is wrong and what to do."""

    service: str
    what: str
    state: State
    detail: str = ""

    @classmethod
    def of(cls, service: str, what: str, problem: str, good: str = "") -> Line:
        """Failed if there is a ``problem``."""
        return cls(service, what, State.FAILED, problem) if problem else cls(service, what, State.OK, good)

    def row(self) -> dict[str, str]:
        return asdict(self)
