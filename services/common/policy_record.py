"""The knobs as they lie in Redis: one record for all device classes, with a version and a time to live.

The policy service writes it; verifiers read it and put the class's knobs on each verdict; edges read it too, for sessions that
never ask. The high part of a version is the fencing token of the publisher's lease: a publisher that lost it can only write
lower ones, which everybody ignores."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError

FENCE_SHIFT = 20  # publications of one lease holder before it needs a new fencing token: a million
DEFAULT_CLASS = "default"
MOST_CLASSES = 256
CLASS_PATTERN = r"^[A-Za-z0-9._-]{1,64}$"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class ClassKnobs(_Part):
    """The setting of one class; ``source``: control, hold, safe or override."""

    k: int = Field(ge=1, le=64)
    gamma: float = Field(ge=0, le=100)
    gamma_max: float = Field(default=100.0, ge=0)
    source: str = Field(default="", max_length=32)


class PolicyRecord(_Part):
    """All of them. ``ttl_ms``: how long whoever has read it may go by it."""

    version: int = Field(ge=0, lt=1 << 62)
    ttl_ms: int = Field(ge=1)
    classes: dict[str, ClassKnobs] = Field(max_length=MOST_CLASSES)

    def of(self, device_class: str) -> ClassKnobs | None:
        """That class's knobs, or else those of ``default``."""
        return self.classes.get(device_class) or self.classes.get(DEFAULT_CLASS)

    def encode(self) -> bytes:
        return self.model_dump_json().encode()

    @staticmethod
    def decode(data: bytes | None) -> PolicyRecord | None:
        """``None`` also for what cannot be read: without a record everybody goes by its own settings."""
        if data is None:
            return None
        try:
            return PolicyRecord.model_validate_json(data)
        except ValidationError:
            return None


def version(fence: int, number: int) -> int:
    """Of the ``number``-th publication under fencing token ``fence``."""
    return (fence << FENCE_SHIFT) + number


@dataclass(frozen=True)
class OverrideRecord:
    """A person's setting of one class, for another ``left_seconds``."""

    k: int
    gamma: float
    left_seconds: float
    reason: str = ""

    @staticmethod
    def decode(data: bytes, left_seconds: float) -> OverrideRecord | None:
        try:
            raw = json.loads(data)
            return OverrideRecord(int(raw["k"]), float(raw["gamma"]), left_seconds, str(raw.get("reason", ""))[:200])
        except (ValueError, KeyError, TypeError):
            return None
