"""Two tiny random Llamas and a verifier in the same process: every line of edge and verifier that touches sampling, no
network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from services.common.lm import parts
from services.common.lm.engine import CausalEngine
from services.common.sampling import Sampling
from services.common.warp import distribution
from services.edge_worker.draft import ModelDrafter
from services.edge_worker.signals import Signal
from services.pair.judge import Direct, Judge
from services.verifier.engine import TargetEngine
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


def client(net: PreTrainedModel) -> Judge:
    """``VerifierClient`` over the verifier's real engine; messages take their wire form on the way."""
    engine = TargetEngine(CausalEngine(net, slots=2, capacity_tokens=CAPACITY), SlotTable(2), vocabulary=VOCABULARY)
    return Judge(Direct(engine))


def law(net: PreTrainedModel, prefix: Sequence[int], sampling: Sampling) -> np.ndarray:
    """The model's distribution after ``prefix`` `[VOCABULARY]`, by a plain forward pass without any cache."""
    with torch.inference_mode():
        logits = net(input_ids=torch.tensor([list(prefix)])).logits[0, -1:, :VOCABULARY]
    p: np.ndarray = distribution(logits, sampling)[0].double().numpy()
    p /= p.sum()
    return p
