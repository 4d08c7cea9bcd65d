"""Two real models in this process: the edge's drafter and the verifier's engine, without a network. Imports torch."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import torch

from services.common import codec
from services.common.lm.engine import CausalEngine
from services.common.lm.loading import LoadedModel
from services.common.messages import Cancel, CandidateBatch, Open, Verdict
from services.common.speculative import rejection
from services.common.warp import distribution
from services.edge_worker.draft import ModelDrafter, Step, StepRequest
from services.edge_worker.gate.uncertainty import every_signal
from services.edge_worker.signals import Signal
from services.edge_worker.verifier_client import Lost
from services.verifier.engine import TargetEngine
from services.verifier.scheduler import Round
from services.verifier.slots import SlotTable

PREFILL_TOKENS = 256


class _Tapped(CausalEngine):
    """Keeps the logits of its last pass."""

    last: torch.Tensor

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        self.last = super().logits(states)
        return self.last


class PairDrafter:
    """The edge worker's drafter with every signal of its last step at hand; one session at a time."""

    def __init__(self, draft: LoadedModel, *, context_tokens: int, entries: int) -> None:
        self._engine = _Tapped(draft.model, slots=1, capacity_tokens=context_tokens + PREFILL_TOKENS)
        self._vocabulary = draft.vocabulary
        self._inner = ModelDrafter(
            self._engine,
            vocabulary=draft.vocabulary,
            signal=Signal.ONE_MINUS_MAX,
            entries=entries,
            prefill_tokens=PREFILL_TOKENS,
        )
        self.signals: Mapping[str, float] = {}

    def acquire(self) -> int | None:
        return self._inner.acquire()

    def release(self, slot: int) -> None:
        self._inner.release(slot)

    async def step(self, request: StepRequest) -> Step:
        step = await self._inner.step(request)
        logits = self._engine.last[-1, : self._vocabulary]
        self.signals = {signal.value: u for signal, u in every_signal(logits, step.d).items()}
        return step

    def close(self) -> None:
        self._inner.close()


class PairJudge:
    """The verifier's engine behind the session loop's seam; see ``record.Judge``."""

    def __init__(self, target: LoadedModel, *, context_tokens: int) -> None:
        self._causal = _Tapped(target.model, slots=1, capacity_tokens=2 * context_tokens)
        self._vocabulary = target.vocabulary
        self._engine = TargetEngine(self._causal, SlotTable(1), vocabulary=target.vocabulary)
        self._open: dict[bytes, tuple[Open, list[int]]] = {}
        self._queues: dict[bytes, asyncio.Queue[Verdict | Lost]] = {}
        self.refusals: list[float] = []

    def verdicts(self, session: bytes) -> asyncio.Queue[Verdict | Lost]:
        return self._queues.setdefault(session, asyncio.Queue())

    def release(self, session: bytes) -> None:
        self._queues.pop(session, None)
        self._open.pop(session, None)
        self._engine.forget([session])

    async def open(self, message: Open) -> int:
        self._open[message.session] = (message, message.base())
        return 0

    async def submit(self, batch: CandidateBatch) -> int:
        verdict = await asyncio.to_thread(self._judge, batch)
        self._queues[batch.session].put_nowait(verdict)
        return 0

    async def cancel(self, message: Cancel) -> int:
        return 0

    @torch.inference_mode()
    def _judge(self, batch: CandidateBatch) -> Verdict:
        opened, base = self._open[batch.session]
        span = batch.tokens()
        item = Round(batch.session, base, span, opened.sampling, opened.seed, batch.round, batch.want_bonus, 0.0)
        (judged,), _ = self._engine.verify([item])
        rows = distribution(self._causal.last[: len(span), : self._vocabulary], opened.sampling)
        self.refusals = [rejection(float(row[token.d]), token.x_d) for row, token in zip(rows, span, strict=True)]
        new = [*base, *(t.d for t in span[: judged.kept]), *([] if judged.token is None else [judged.token])]
        self._open[batch.session] = (opened, new)
        return Verdict(
            session=batch.session,
            round=batch.round,
            attempt=batch.attempt,
            kept=judged.kept,
            token=judged.token,
            corrected=judged.corrected,
            base_length=len(new),
            base_digest=codec.base_digest(new),
            audits=codec.pack_audits(judged.audits),
        )


def chat_ids(tokenizer: Any, prompt: str) -> list[int]:
    """The ids of one user turn in the model's chat template, with the assistant's turn opened."""
    turn = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
