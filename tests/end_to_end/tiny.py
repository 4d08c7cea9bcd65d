"""Two tiny random Llamas and a verifier in the same process: every line of edge and verifier that touches sampling, no
network."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from services.common import codec
from services.common.lm import parts
from services.common.lm.engine import CausalEngine
from services.common.messages import Cancel, CandidateBatch, Open, Verdict, decode, encode
from services.common.sampling import Sampling
from services.common.warp import distribution
from services.edge_worker.draft import ModelDrafter
from services.edge_worker.signals import Signal
from services.edge_worker.verifier_client import Lost
from services.verifier.engine import TargetEngine
from services.verifier.scheduler import Round
from services.verifier.slots import SlotTable

VOCABULARY = 5
PADDED = 8  # the logits are wider than the vocabulary, as in Qwen's models
CAPACITY = 64


def model(seed: int) -> PreTrainedModel:
    config = LlamaConfig(
        vocab_size=PADDED,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=CAPACITY,
    )
    torch.manual_seed(seed)
    net = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(4.0 if parameter.dim() > 1 else 1.0)
    return parts.frozen(net)


def drafter(net: PreTrainedModel, signal: Signal = Signal.ONE_MINUS_MAX) -> ModelDrafter:
    engine = CausalEngine(net, slots=1, capacity_tokens=CAPACITY)
    return ModelDrafter(engine, vocabulary=VOCABULARY, signal=signal, entries=VOCABULARY)


class EngineClient:
    """``VerifierClient`` over the verifier's real engine; messages take their wire form on the way."""

    def __init__(self, net: PreTrainedModel) -> None:
        self._engine = TargetEngine(CausalEngine(net, slots=2, capacity_tokens=CAPACITY), SlotTable(2), vocabulary=VOCABULARY)
        self._open: dict[bytes, tuple[Open, list[int]]] = {}
        self._queues: dict[bytes, asyncio.Queue[Verdict | Lost]] = {}

    def verdicts(self, session: bytes) -> asyncio.Queue[Verdict | Lost]:
        return self._queues.setdefault(session, asyncio.Queue())

    def release(self, session: bytes) -> None:
        self._queues.pop(session, None)
        self._open.pop(session, None)

    async def open(self, message: Open) -> int:
        data = encode(message)
        received = decode(data)
        assert isinstance(received, Open)
        self._open[message.session] = (received, received.base())
        return len(data)

    async def submit(self, message: CandidateBatch) -> int:
        data = encode(message)
        batch = decode(data)
        assert isinstance(batch, CandidateBatch)
        opened, base = self._open[batch.session]
        assert codec.base_digest(base) == batch.base_digest
        span = batch.tokens()
        item = Round(batch.session, base, span, opened.sampling, opened.seed, batch.round, batch.want_bonus, 0.0)
        (judged,), _ = self._engine.verify([item])
        new = [*base, *(t.d for t in span[: judged.kept]), *([] if judged.token is None else [judged.token])]
        self._open[batch.session] = (opened, new)
        verdict = Verdict(
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
        received = decode(encode(verdict))
        assert isinstance(received, Verdict)
        queue = self._queues.get(batch.session)
        if queue is not None:
            queue.put_nowait(received)
        return len(data)

    async def cancel(self, message: Cancel) -> int:
        return 0


def law(net: PreTrainedModel, prefix: Sequence[int], sampling: Sampling) -> np.ndarray:
    """The model's distribution after ``prefix`` `[VOCABULARY]`, by a plain forward pass without any cache."""
    with torch.inference_mode():
        logits = net(input_ids=torch.tensor([list(prefix)])).logits[0, -1:, :VOCABULARY]
    p: np.ndarray = distribution(logits, sampling)[0].double().numpy()
    p /= p.sum()
    return p
