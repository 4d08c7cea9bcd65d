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

from services.common.lm.cache import FlatPlan, SlotCache

NAME = "sluice_grouped"


def use(model: PreTrainedModel) -> int:
    """Let ``model`` run on ``grouped_attention``; returns the query heads per key head (0 where it cannot be used)."""
    config = model.config.get_text_config()
    if getattr(config, "_attn_implementation", None) not in ("sdpa", NAME):
        return 0  # chosen by the user, or a model torch's kernel does not serve
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
        columns = torch.arange(keys.shape[2], device=keys.device)
        rows = []
        for b, length in enumerate(self._lengths):
            # a single row ends at the last column
            hidden = columns > self._positions[b, length - 1] if len(keys) > 1 else None
            rows.append(_weights(queries[b, :, length - 1], keys[b], scaling, hidden))
        self.weights = torch.stack(rows)

    def take_flat(self, queries: torch.Tensor, keys: Sequence[torch.Tensor], at: Sequence[int], scaling: float | None) -> None:
        """``queries`` `[1, heads, tokens, dim]` of a flat pass; of each row its ``keys`` `[1, key_heads, stop, dim]` and its
        last token. Rows are padded with zeros."""
        rows = [_weights(queries[0, :, last], own[0], scaling, None) for own, last in zip(keys, at, strict=True)]
        self.weights = nn.utils.rnn.pad_sequence(rows, batch_first=True)


def _weights(query: torch.Tensor, keys: torch.Tensor, scaling: float | None, hidden: torch.Tensor | None) -> torch.Tensor:
    """``query`` `[heads, dim]` over ``keys`` `[key_heads, columns, dim]`: `[columns]`, mean of the heads."""
    key_heads, _, dim = keys.shape
    grouped = query.reshape(key_heads, len(query) // key_heads, dim).float() * (dim**-0.5 if scaling is None else scaling)
    scores = torch.bmm(grouped, keys.float().transpose(1, 2))
    if hidden is not None:
        scores.masked_fill_(hidden, float("-inf"))
    return scores.softmax(dim=-1).mean(dim=(0, 1))


def causal_mask(positions: torch.Tensor, columns: int, group: int, dtype: torch.dtype) -> torch.Tensor:
    """Zero where row ``positions[b, s]`` may look, ``-inf`` elsewhere: `[batch, 1, group * span, columns]`."""
    hidden = torch.arange(columns, device=positions.device) > positions.unsqueeze(-1)
    mask = torch.zeros(hidden.shape, dtype=dtype, device=positions.device).masked_fill_(hidden, float("-inf"))
    return mask.repeat(1, group, 1).unsqueeze(1)


def flat_attention(
    queries: torch.Tensor, cache: SlotCache, plan: FlatPlan, layer: int, scaling: float | None, watch: LastRow | None
) -> torch.Tensor:
    """``queries`` `[1, heads, tokens, dim]` of a flat pass, each row over its own keys: `[1, tokens, heads, dim]`."""
    _, heads, _, dim = queries.shape
    keys, out = [], []
    for segment in plan.segments:
        own, values = cache.of(segment, layer)
        key_heads, n = own.shape[1], segment.tokens
        asking = queries[:, :, segment.at : segment.at + n].reshape(1, key_heads, heads // key_heads * n, dim)
        seen = nn.functional.scaled_dot_product_attention(asking, own, values, attn_mask=segment.mask, scale=scaling)
        out.append(seen.view(1, heads, n, dim).transpose(1, 2))
        keys.append(own)
    if watch is not None:
        watch.take_flat(queries, keys, [s.at + s.tokens - 1 for s in plan.segments], scaling)
    return torch.cat(out, dim=1)


def grouped_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    watch: LastRow | None = None,
    flat: tuple[SlotCache, FlatPlan] | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """``query`` `[batch, heads, span, dim]` over ``key``, ``value`` `[batch, key_heads, columns, dim]`.

    ``attention_mask`` is ``causal_mask``'s, or an ordinary one of `[batch, 1, span, columns]`. Returns
    `[batch, span, heads, dim]`, the layout transformers expects, and no weights; ``watch`` gets those of its layer. ``flat``:
    this is a flat pass, whose rows have their masks in the plan.
    """
    index = getattr(module, "layer_idx", None)
    asked = watch if watch is not None and watch.layer == index else None
    if flat is not None and index is not None:
        return flat_attention(query, *flat, index, scaling, asked), None
    batch, heads, span, dim = query.shape
    key_heads = key.shape[1]
    rows = heads // key_heads * span
    if asked is not None:
        asked.take(query, key, scaling)
    if attention_mask is None or attention_mask.shape[1] != 1 or dropout:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    if attention_mask.shape[2] != rows:
        attention_mask = attention_mask.repeat(1, 1, heads // key_heads, 1)
    out = nn.functional.scaled_dot_product_attention(
        query.reshape(batch, key_heads, rows, dim), key, value, attn_mask=attention_mask, scale=scaling
    )
    return out.view(batch, heads, span, dim).transpose(1, 2), None
