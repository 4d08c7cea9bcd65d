"""Where in the topic a message stands: what tells a redelivery (the same place) from a replay (another, later one)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """A place in the topic of candidates."""

    partition: int
    offset: int

    def text(self) -> str:
        return f"{self.partition}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Origin:
        """Raises ``ValueError``."""
        partition, _, offset = text.partition(":")
        return cls(int(partition), int(offset))

    def after(self, other: Origin | None) -> bool:
        """Was this message written after ``other``? No, where that is not known; yes, where it lay in another partition."""
        return other is not None and (self.partition != other.partition or self.offset > other.offset)
