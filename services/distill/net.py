"""The parts of a model that distillation takes apart; transformers types them as anything."""

from __future__ import annotations

from typing import Any, cast

import torch
from transformers import PreTrainedModel

from services.common.lm import parts


def decoder(model: PreTrainedModel) -> Any:
    """Embedding, ``layers`` and final ``norm``."""
    return parts.decoder(model)


def head_weight(model: PreTrainedModel) -> torch.Tensor:
    """`[vocabulary, hidden]`."""
    return cast(torch.Tensor, parts.head(model).weight)
