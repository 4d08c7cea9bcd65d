"""Tables whose damage is known: what an answer lost by skipping is computed from its tokens, not from its audits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from services.common.messages import Mode
from services.common.rng import Floats
from services.common.sampling import Sampling
from services.common.speculative import Sparse, rejection
from services.edge_worker.answer import AnswerRequest, Decision, OnOutage, TokenOut
from services.edge_worker.breaker import Breaker
from services.edge_worker.fakes import LoopbackClient, TableDrafter
from services.edge_worker.gate import Gate
from services.edge_worker.session import Observer, Session, Worker
from services.edge_worker.signals import Signal

Law = Callable[[Sequence[int]], Floats]
VOCABULARY = 4
FALSE_ALARM = 1e-6  # of each statistical test here; seeds are fixed


def rejections(prompt: Sequence[int], tokens: Sequence[TokenOut], draft: Law, target: Law) -> float:
    """Sum of the rejection probabilities of the answer's skipped tokens, by the laws themselves."""
    prefix, total = list(prompt), 0.0
    for token in tokens:
        if token.decision is Decision.SKIPPED:
            p = draft(prefix)
            x = Sparse.cut(np.arange(len(p)), p, len(p))
            total += rejection(float(target(prefix)[token.id]), x.of(token.id))
        prefix.append(token.id)
    return total


class Bench:
    """One worker over tables."""

    def __init__(self, draft: Law, target: Law, **changes: Any) -> None:
        self.draft, self.target = draft, target
        self.client = LoopbackClient(target)
        values: dict[str, Any] = {
            "drafter": TableDrafter(draft),
            "client": self.client,
            "breaker": Breaker(failures=2, pause_seconds=1000.0),
            "gate": Gate(Signal.ONE_MINUS_MAX, 0.3),
            "end_ids": frozenset(),
            "tokenizer_hash": "",
            "target": "",
            "span_tokens": 4,
            "wait_tokens": 4,
            "risk": 1.0,
            "audit_rate": 0.2,
            "wait_seconds": 1.0,
            "observer": Observer(),
        }
        self.worker = Worker(**{**values, **changes})

    def request(self, seed: int, **changes: Any) -> AnswerRequest:
        values: dict[str, Any] = {
            "prompt_ids": [0, 1],
            "max_tokens": 6,
            "sampling": Sampling(),
            "seed": seed,
            "mode": Mode.OPPORTUNISTIC,
            "k": 2,
            "gamma": 1.0,
            "deadline_seconds": 5.0,
            "on_outage": OnOutage.DEGRADE,
        }
        return AnswerRequest(**{**values, **changes})

    def session(self, seed: int, **changes: Any) -> Session:
        slot = self.worker.drafter.acquire()
        assert slot is not None
        return Session(self.request(seed, **changes), self.worker, slot)

    async def write(self, seed: int, **changes: Any) -> tuple[list[TokenOut], Session]:
        session = self.session(seed, **changes)
        return [t async for t in session], session

    def damage(self, tokens: Sequence[TokenOut], session: Session) -> float:
        """Of an answer, exactly."""
        return self.rejections(session.request.prompt_ids, tokens) / len(tokens)

    def rejections(self, prompt: Sequence[int], tokens: Sequence[TokenOut]) -> float:
        """Sum of the rejection probabilities of an answer's skipped tokens."""
        return rejections(prompt, tokens, self.draft, self.target)
