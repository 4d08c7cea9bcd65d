"""What one answer of one method left behind: counts, and its rounds in order. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Exchange:
    """One upload and its verdict. ``steps``: drafting steps between the verdict before and this upload; bytes: messages with
    their signature header (up) and the verdict (down); ``fed``: tokens that the pass of the large model processed."""

    steps: int
    up_bytes: int
    down_bytes: int
    fed: int
    candidates: int


@dataclass(frozen=True)
class Record:
    """One answer. ``measured_seconds``: in this process, both models on this machine, no network, audits left out; ``None``
    where other answers were written at the same time.

    ``streamed``: the large model wrote alone: one pass for each token, tokens streamed down (``down_bytes`` in all).
    ``open_bytes``: the opening message, 0 where nothing is asked; ``prompt_fed``: prompt tokens the large model processed.
    ``rule``: fingerprint of how it was written.
    ``audit_sum``: damage times ``answered``. ``correct``: ``None`` where nothing can mark it.
    """

    method: str
    prompt: int
    text: str
    answered: int
    judged: int
    bonus: int
    audit_sum: float
    steps: int
    measured_seconds: float | None
    open_bytes: int
    prompt_fed: int
    exchanges: tuple[Exchange, ...] = ()
    streamed: bool = False
    down_bytes: int = 0
    correct: bool | None = None
    rule: str = ""

    @property
    def up_bytes(self) -> int:
        return self.open_bytes + sum(e.up_bytes for e in self.exchanges)

    @property
    def passes(self) -> int:
        """Of the large model: one for the prompt, one a round; alone, one a token (the prompt's pass gives the first)."""
        return self.answered if self.streamed else (1 if self.prompt_fed else 0) + len(self.exchanges)

    @property
    def fed(self) -> int:
        """Tokens that the large model processed, the prompt left out."""
        return max(0, self.answered - 1) if self.streamed else sum(e.fed for e in self.exchanges)

    def to_json(self) -> dict[str, Any]:
        raw = asdict(self)
        raw["exchanges"] = [list(asdict(e).values()) for e in self.exchanges]
        return raw

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> Record:
        """Raises ``TypeError``, ``KeyError`` or ``ValueError`` where it is none."""
        exchanges = tuple(Exchange(*map(int, row)) for row in raw["exchanges"])
        return Record(**{**raw, "exchanges": exchanges})
