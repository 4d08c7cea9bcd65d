"""The parts of a Hugging Face decoder we touch, with their types (transformers declares them as anything)."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel


def decoder(model: PreTrainedModel) -> nn.Module:
    """The stack of layers between embedding and head, final norm included."""
    return cast(nn.Module, model.get_decoder())  # type: ignore[no-untyped-call,unused-ignore]


def embedding(model: PreTrainedModel) -> nn.Embedding:
    """Token ids to states."""
    return cast(nn.Embedding, model.get_input_embeddings())


def head(model: PreTrainedModel) -> nn.Module:
    """Final states to logits: `nn.Linear`, or one of our formats of it."""
    return cast(nn.Module, model.get_output_embeddings())  # type: ignore[no-untyped-call]


def frozen(model: Any) -> PreTrainedModel:
    """The model for inference only."""
    model.requires_grad_(False)
    return cast(PreTrainedModel, model.eval())


def name_of(model: PreTrainedModel, module: nn.Module) -> str:
    """Where ``module`` hangs in ``model``."""
    return next(str(name) for name, found in model.named_modules() if found is module)


def memory_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and buffers, shared ones once."""
    tensors: dict[int, torch.Tensor] = {t.data_ptr(): t for t in (*model.parameters(), *model.buffers())}
    return sum(t.numel() * t.element_size() for t in tensors.values())
