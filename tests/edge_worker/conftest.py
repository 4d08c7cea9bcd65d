"""A worker over the exact fakes: a law over four tokens whose rows depend on the last token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from services.common.messages import Mode
from services.common.sampling import Sampling
from services.edge_worker.answer import AnswerRequest, OnOutage, TokenOut
from services.edge_worker.breaker import Breaker
from services.edge_worker.fakes import LoopbackClient, TableDrafter
from services.edge_worker.gate import Gate
from services.edge_worker.session import Observer, Session, Worker
from services.edge_worker.signals import Signal

END = 99


def draft_law(prefix: Sequence[int]) -> np.ndarray:
    """Unsure (u = 0.45) at even positions, sure (u = 0.15) at odd ones."""
    row = [0.85, 0.05, 0.05, 0.05] if len(prefix) % 2 else [0.55, 0.25, 0.15, 0.05]
    return np.roll(np.array(row), prefix[-1] + len(prefix) % 2)


def target_law(prefix: Sequence[int]) -> np.ndarray:
    return np.roll(np.array([0.25, 0.40, 0.05, 0.30]), prefix[-1] + len(prefix) % 2)


def request_for(seed: int = 0, **changes: Any) -> AnswerRequest:
    base = AnswerRequest(
        prompt_ids=[0, 1, 2],
        max_tokens=6,
        sampling=Sampling(),
        seed=seed,
        mode=Mode.OPPORTUNISTIC,
        k=2,
        gamma=1.0,
        deadline_seconds=5.0,
        on_outage=OnOutage.DEGRADE,
    )
    return replace(base, **changes)


class Rig:
    """One worker with its fakes at hand."""

    def __init__(self, **changes: Any) -> None:
        self.client = LoopbackClient(target_law)
        self.drafter = TableDrafter(draft_law)
        self.now = 0.0
        values: dict[str, Any] = {
            "drafter": self.drafter,
            "client": self.client,
            "breaker": Breaker(failures=2, pause_seconds=1000.0),
            "gate": Gate(Signal.ONE_MINUS_MAX, 0.3),
            "end_ids": frozenset({END}),
            "tokenizer_hash": "hash",
            "target": "target",
            "span_tokens": 8,
            "wait_tokens": 4,
            "risk": 0.95,
            "audit_rate": 1.0,
            "wait_seconds": 1.0,
            "observer": Observer(),
        }
        self.worker = Worker(**{**values, **changes})

    def session(self, seed: int = 0, **changes: Any) -> Session:
        slot = self.drafter.acquire()
        assert slot is not None
        return Session(request_for(seed, **changes), self.worker, slot)

    async def write(self, seed: int = 0, **changes: Any) -> tuple[list[TokenOut], Session]:
        session = self.session(seed, **changes)
        return [t async for t in session], session


@pytest.fixture
def rig() -> Callable[..., Rig]:
    return Rig
