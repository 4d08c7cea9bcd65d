"""One request and what came back, as its client sees it. Pure."""

from __future__ import annotations

import enum
import json
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from services.loadgen.arrivals import Arrival

DECISIONS = ("skipped", "accepted", "corrected", "bonus", "unverified")
DONE = "[DONE]"


class Outcome(enum.StrEnum):
    """How a request ended."""

    RUNNING = "running"  # or broken off by the end of the load
    COMPLETE = "complete"
    REFUSED = "refused"  # 429: the worker has no room
    FAILED = "failed"


class Malformed(ValueError):
    """What came is no answer of an edge worker; ``str`` says why in one line."""


@dataclass
class Answer:
    """Times are seconds after the begin of the load: when it was ``due``, when it was ``begun`` (later where the generator was
    late) and ``ended``; ``token_at`` has one entry for each token that was shown. Waiting counts from ``due``."""

    due: float
    client: int
    begun: float
    ended: float | None = None
    outcome: Outcome = Outcome.RUNNING
    error: str = ""
    token_at: array[float] = field(default_factory=lambda: array("d"))
    decisions: Counter[str] = field(default_factory=Counter)

    @classmethod
    def begin(cls, arrival: Arrival, now: float) -> Answer:
        return cls(arrival.at, arrival.client, now)

    @property
    def late_seconds(self) -> float:
        return self.begun - self.due

    @property
    def first_token_seconds(self) -> float | None:
        return self.token_at[0] - self.due if self.token_at else None

    @property
    def token_seconds(self) -> float | None:
        """Mean time from one token to the next."""
        last = len(self.token_at) - 1
        return (self.token_at[last] - self.token_at[0]) / last if last > 0 else None

    def take(self, line: str, now: float) -> None:
        """One line of the stream of server-sent events. Raises ``Malformed``, also with the error that the worker states."""
        name, _, data = line.partition(":")
        data = data.strip()
        if name != "data" or data == DONE:
            return
        try:
            chunk = json.loads(data)
            self._take(chunk, now)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, Malformed):
                raise
            raise Malformed(f"no chunk of an edge worker: {type(error).__name__}") from error

    def _take(self, chunk: dict[str, Any], now: float) -> None:
        if "error" in chunk:
            raise Malformed(f"broke off: {chunk['error']['message']}")
        tokens = (chunk.get("sluice") or {}).get("tokens")
        if isinstance(tokens, list):
            for token in tokens:
                self.decisions[token["decision"]] += 1
                self.token_at.append(now)
        elif tokens is not None:  # the account at the end: of tokens that were held back, too
            self.decisions = Counter({name: int(tokens[name]) for name in DECISIONS})
            self.outcome = Outcome.COMPLETE

    def end(self, now: float, outcome: Outcome | None = None, error: str = "") -> None:
        """The connection is over. An answer without its account at the end has failed."""
        self.ended = now
        if outcome is not None:
            self.outcome, self.error = outcome, error
        elif self.outcome is not Outcome.COMPLETE:
            self.outcome, self.error = Outcome.FAILED, "the stream ended without the account of its tokens"
