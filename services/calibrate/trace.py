"""What one answer of the policy left behind, token by token. Pure.

``damage`` is the project's word (DESIGN section 1): the rejection probabilities of the answer's skipped tokens, summed, over
its answered tokens. It lies in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.common.rng import Floats


@dataclass(frozen=True)
class Token:
    """One drafted token that a verdict reached: skipped, accepted, or the candidate that was corrected.

    ``audit``: rejection probability ``max(0, 1 - y_d / x_d)``; ``expected``: its expectation before ``d`` was drawn,
    ``sum (x - y)^+``; ``signals``: every uncertainty by name, in [0, 1].
    """

    signals: Mapping[str, float]
    x_d: float
    flagged: bool
    audit: float
    expected: float


@dataclass(frozen=True)
class Answer:
    """One answer written at ``threshold`` of the policy's signal. ``prompt``: index in the prompt file."""

    prompt: int
    threshold: float
    seed: int
    prompt_tokens: int
    answered: int  # tokens of the answer, corrections and bonus tokens included
    tokens: tuple[Token, ...]

    @property
    def skipped(self) -> int:
        return sum(not t.flagged for t in self.tokens)

    @property
    def local(self) -> bool:
        """Nothing of it was asked about."""
        return self.skipped == self.answered

    @property
    def damage(self) -> float:
        """The loss that is controlled; zero for an empty answer."""
        return sum(t.audit for t in self.tokens if not t.flagged) / self.answered if self.answered else 0.0

    def to_json(self) -> dict[str, Any]:
        names = sorted(self.tokens[0].signals) if self.tokens else []
        return {
            "prompt": self.prompt,
            "threshold": self.threshold,
            "seed": self.seed,
            "prompt_tokens": self.prompt_tokens,
            "answered": self.answered,
            "damage": self.damage,
            "signals": {name: [round(t.signals[name], 6) for t in self.tokens] for name in names},
            "x_d": [round(t.x_d, 6) for t in self.tokens],
            "flagged": [int(t.flagged) for t in self.tokens],
            "audit": [round(t.audit, 6) for t in self.tokens],
            "expected": [round(t.expected, 6) for t in self.tokens],
        }

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> Answer:
        """Raises ``KeyError`` or ``ValueError`` where a field is missing or the columns differ in length."""
        columns = raw["signals"]
        rows = zip(raw["x_d"], raw["flagged"], raw["audit"], raw["expected"], strict=True)
        tokens = tuple(
            Token({name: float(column[i]) for name, column in columns.items()}, float(x_d), bool(flagged), *map(float, rest))
            for i, (x_d, flagged, *rest) in enumerate(rows)
        )
        head = (int(raw["prompt"]), float(raw["threshold"]), int(raw["seed"]), int(raw["prompt_tokens"]), int(raw["answered"]))
        return Answer(*head, tokens)


@dataclass(frozen=True)
class Columns:
    """Tokens of many answers as arrays of one length. ``prompt`` tells whose token it is."""

    signals: Mapping[str, Floats]
    x_d: Floats
    audit: Floats
    expected: Floats
    prompt: Floats

    @staticmethod
    def of(answers: Iterable[Answer]) -> Columns:
        """Every token whose rejection probability is known. Raises ``ValueError`` where there is none."""
        pairs = [(answer.prompt, token) for answer in answers for token in answer.tokens]
        if not pairs:
            raise ValueError("no token was recorded: the answers are empty")
        names = sorted(pairs[0][1].signals)
        return Columns(
            {name: np.array([t.signals[name] for _, t in pairs]) for name in names},
            np.array([t.x_d for _, t in pairs]),
            np.array([t.audit for _, t in pairs]),
            np.array([t.expected for _, t in pairs]),
            np.array([float(p) for p, _ in pairs]),
        )

    def __len__(self) -> int:
        return len(self.audit)
