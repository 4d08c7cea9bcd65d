"""The answers of one part of a calibration, as a record that a later run goes on from."""

from __future__ import annotations

from typing import Any

from services.calibrate.trace import Answer
from services.common.journal import Header, JournalError, Lines

__all__ = ["Header", "Journal", "JournalError", "Key"]

Key = tuple[int, float]  # prompt, threshold


class Journal(Lines[Key, Answer]):
    """``answers``: those that were already there, and those added."""

    command = "sluice calibrate"

    @property
    def answers(self) -> dict[Key, Answer]:
        return self.found

    def key(self, value: Answer) -> Key:
        return value.prompt, value.threshold

    def to_json(self, value: Answer) -> Any:
        return value.to_json()

    def from_json(self, raw: Any) -> Answer:
        return Answer.from_json(raw)
