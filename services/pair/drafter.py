"""The edge's draft model for several answers at once, one row each."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from services.edge_worker.draft import DraftEngine, Scored, Scorer, Step, StepRequest, signals_of
from services.edge_worker.gate import Draws
from services.pair.gather import Gather

DRAFT = "draft"  # kind of request


def keeping_all(logits: torch.Tensor, token: int | None, draws: Draws) -> Scored:
    """A scorer that keeps all signals; ``u`` is one minus the largest probability."""
    signals = signals_of(logits, token)
    return Scored(signals["one_minus_max"], signals)


def run(engine: DraftEngine, asked: Sequence[tuple[StepRequest, Scorer]]) -> list[Step]:
    """For ``Gather``."""
    return engine.draft([request for request, _ in asked], [scorer for _, scorer in asked])


class RowDrafter:
    """``Drafter`` of one row: one answer at a time."""

    def __init__(self, gather: Gather, engine: DraftEngine, row: int, scorer: Scorer) -> None:
        self._gather, self._engine, self._row, self._scorer = gather, engine, row, scorer

    def acquire(self) -> int | None:
        return self._row

    def release(self, slot: int) -> None:
        self._engine.forget(slot)

    async def step(self, request: StepRequest) -> Step:
        step: Step = await self._gather.ask(DRAFT, self._row, (request, self._scorer))
        return step
