"""The seam to what watches the damage of answers."""

from __future__ import annotations

import math
from typing import Protocol

from services.edge_worker.answer import AnswerRequest


class Watch(Protocol):
    """Bounds ``gamma`` where an answer starts, and knows whether promises hold."""

    def admit(self, request: AnswerRequest, promised: str) -> AnswerRequest:
        """``request`` as it may be answered; ``promised``: what it would guarantee."""
        ...

    @property
    def gamma(self) -> float:
        """The bound on ``gamma`` that answers start with."""
        ...

    @property
    def withdrawn(self) -> str:
        """Why nothing is promised now; empty: promises hold."""
        ...


class Unwatched:
    """Leaves answers as they are."""

    withdrawn = ""
    gamma = math.inf

    def admit(self, request: AnswerRequest, promised: str) -> AnswerRequest:
        return request
