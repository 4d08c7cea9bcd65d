"""Attention for short spans over a long cache: the query heads that share a key head become rows of one product.

transformers copies keys and values once per query head, at every layer and step, and torch's kernel is slow for a
single row under a mask. Grouped, one new token over 200 costs a sixth, with the same numbers. Registered under a name
of its own, so that any Hugging Face decoder takes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "sluice_grouped"


def use(model: PreTrainedModel) -> int:
    """Let ``model`` run on ``grouped_attention``; returns the query heads per key head (1 where it cannot be used)."""
    config = model.config.get_text_config()
    if getattr(config, "_attn_implementation", None) not in ("sdpa", NAME):
        return 1  # chosen by the user, or a model torch's kernel does not serve
    AttentionInterface.register(NAME, grouped_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
    heads = int(getattr(config, "num_attention_heads", 1))
    return heads // int(getattr(config, "num_key_value_heads", None) or heads)


@dataclass
class LastRow:
    """Asks one pass for the attention weights of each row's last token in ``layer``, heads averaged.

    The fused kernel gives no weights, and asking the model for them gives those of all layers and rows. One row of queries over
    the cached keys is a small product beside it.
    """

    layer: int
    weights: torch.Tensor | None = None  # `[batch, columns]` float32, from the pass
    _lengths: Sequence[int] = field(init=False)
    _positions: torch.Tensor = field(init=False)

    def begin(self, lengths: Sequence[int], positions: torch.Tensor) -> None:
        """``lengths``: tokens of each row of the pass; ``positions`` `[batch, span]`."""
        self.weights = None
        self._lengths, self._positions = lengths, positions

    def take(self, queries: torch.Tensor, keys: torch.Tensor, scaling: float | None) -> None:
        """``queries`` `[batch, heads, span, dim]`, ``keys`` `[batch, key_heads, columns, dim]`, both rotated."""
        batch, heads, _, dim = queries.shape
        columns = torch.arange(keys.shape[2], device=keys.device)
        factor = dim**-0.5 if scaling is None else scaling
        rows = []
        for b, length in enumerate(self._lengths):
            grouped = queries[b, :, length - 1].reshape(keys.shape[1], heads // keys.shape[1], dim)
            scores = torch.bmm(grouped.float() * factor, keys[b].float().transpose(1, 2))
            if batch > 1:  # a single row ends at the last column
                scores.masked_fill_(columns > self._positions[b, length - 1], float("-inf"))
            rows.append(scores.softmax(dim=-1).mean(dim=(0, 1)))
        self.weights = torch.stack(rows)


def causal_mask(positions: torch.Tensor, columns: int, group: int, dtype: torch.dtype) -> torch.Tensor:
    """Zero where row ``positions[b, s]`` may look, ``-inf`` elsewhere: `[batch, 1, group * span, columns]`."""
    hidden = torch.arange(columns, device=positions.device) > positions.unsqueeze(-1)
    mask = torch.zeros(hidden.shape, dtype=dtype, device=positions.device).masked_fill_(hidden, float("-inf"))
    return mask.repeat(1, group, 1).unsqueeze(1)


def grouped_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    watch: LastRow | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """``query`` `[batch, heads, span, dim]` over ``key``, ``value`` `[batch, key_heads, columns, dim]`.

    ``attention_mask`` is ``causal_mask``'s, or an ordinary one of `[batch, 1, span, columns]`. Returns
    `[batch, span, heads, dim]`, the layout transformers expects, and no weights; ``watch`` gets those of its layer.
    """
    batch, heads, span, dim = query.shape
    key_heads = key.shape[1]
    rows = heads // key_heads * span
    if watch is not None and watch.layer == getattr(module, "layer_idx", None):
        watch.take(query, key, scaling)
    if attention_mask is None or attention_mask.shape[1] != 1 or dropout:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    if attention_mask.shape[2] != rows:
        attention_mask = attention_mask.repeat(1, 1, heads // key_heads, 1)
    out = nn.functional.scaled_dot_product_attention(
        query.reshape(batch, key_heads, rows, dim), key, value, attn_mask=attention_mask, scale=scaling
    )
    return out.view(batch, heads, span, dim).transpose(1, 2), None
