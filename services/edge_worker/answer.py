"""One answer as the HTTP layer sees it: what is asked, what streams out, what it was worth."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from services.common.drift.ledger import Ledger
from services.common.energy.account import Account
from services.common.messages import Mode
from services.common.sampling import Sampling


class Decision(enum.StrEnum):
    """The fate of one answered token."""

    SKIPPED = "skipped"
    ACCEPTED = "accepted"
    CORRECTED = "corrected"
    BONUS = "bonus"
    UNVERIFIED = "unverified"


class OnOutage(enum.StrEnum):
    """What an answer does when no verdict comes: go on unverified, or wait and then fail."""

    DEGRADE = "degrade"
    WAIT = "wait"
    ERROR = "error"


@dataclass(frozen=True)
class Follows:
    """How far an answer goes along with the fleet's policy, from round to round: at most so many candidates of an upload
    (``None``: it keeps its ``k``) and so large a ``gamma`` (``None``: it keeps its own)."""

    k_most: int | None
    gamma_most: float | None


@dataclass(frozen=True)
class AnswerRequest:
    """One answer to write. The HTTP layer has checked it against the context length and the operator's bounds."""

    prompt_ids: list[int]
    max_tokens: int
    sampling: Sampling
    seed: int
    mode: Mode
    k: int
    gamma: float
    deadline_seconds: float
    on_outage: OnOutage
    tenant: str = ""
    top_logprobs: int | None = None  # None: no log probabilities wanted
    slm_only: bool = False  # k = 0: nothing is sent but, for a share of answers, an audit at their end
    audit_seed: int | None = None  # of the draw of that share; None: ``seed``
    watched: bool = False  # its damage counts for the drift of its device class
    follows: Follows | None = None  # None: the knobs stay as they are
    traceparent: str = ""  # the client's span, as its request names it (W3C Trace Context)


@dataclass(frozen=True)
class TokenOut:
    """One token that is final and may be shown. ``logprob`` and ``top`` are the draft model's, where it saw the position."""

    id: int
    decision: Decision
    uncertainty: float | None = None
    round: int | None = None
    replaced: int | None = None  # the draft token that a correction took the place of
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass
class AnswerStats:
    """Running account of one answer; complete when the stream has ended."""

    skipped: int = 0
    accepted: int = 0
    corrected: int = 0
    bonus: int = 0
    unverified: int = 0
    judged: int = 0  # candidates that a verdict accepted or corrected
    uploaded_candidates: int = 0
    rounds: int = 0  # rounds with a verdict
    lost_rounds: int = 0  # rounds whose deadline passed
    payload_bytes: int = 0
    audits: Ledger = field(default_factory=Ledger)
    late_verdicts: int = 0
    draft_seconds: float = 0.0
    wait_seconds: float = 0.0
    verify_seconds: float = 0.0
    energy: Account = field(default_factory=Account)
    finish_reason: str = ""  # stop | length | error
    lossless: bool = False
    kept_local: bool = True  # no verifier was to be asked: ``k`` is 0, or the gate decided so about the whole answer
    policy_version: int = 0  # of the policy that its last round followed; 0: none
    degraded_reason: str = ""
    causes: dict[str, int] = field(default_factory=dict)  # lost rounds by cause

    @property
    def total(self) -> int:
        return self.skipped + self.accepted + self.corrected + self.bonus + self.unverified

    @property
    def upload_rate(self) -> float:
        """Candidates judged / answered tokens."""
        return self.judged / self.total if self.total else 0.0

    @property
    def damage(self) -> float:
        """Sum of the audits of the answer's skipped tokens / its answered tokens; unbiased, so one answer's may exceed 1."""
        return self.audits.damage(self.total)

    @property
    def audit_sum(self) -> float:
        return self.audits.weighted_sum

    @property
    def unaudited(self) -> int:
        """Skipped tokens that neither a round nor the draw of audits covered."""
        return self.audits.unaudited(self.skipped)


class OutageError(RuntimeError):
    """No verdict came and the answer may not go on without; ``str`` is one line for the user."""


class BusyError(RuntimeError):
    """No room for another session now."""

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Answer(Protocol):
    """A running answer: iterate over it for tokens (final, in order), then read ``stats``; ``aclose`` stops the work."""

    stats: AnswerStats

    def __aiter__(self) -> AsyncIterator[TokenOut]: ...

    async def aclose(self) -> None: ...


class Answerer(Protocol):
    """Starts answers. Raises ``BusyError`` at once, ``OutageError`` from the iteration."""

    def answer(self, request: AnswerRequest) -> Answer: ...
