"""The forward pass of Llama-like decoders (Llama, Mistral, Qwen2) with only the operations it needs.

With one new token and a small model, a third of transformers' time is not arithmetic but calls: copies of the mask,
scattered cache writes, rotations of queries and keys apart, wrappers around every module. Here the same modules compute
the same numbers in the same order of rounding. Anything that is not exactly one of these decoders runs as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional
from transformers.models.llama.modeling_llama import LlamaModel
from transformers.models.mistral.modeling_mistral import MistralModel
from transformers.models.qwen2.modeling_qwen2 import Qwen2Model

from services.common.lm import linear
from services.common.lm.attention import LastRow, flat_attention
from services.common.lm.cache import FlatPlan, Plan, SlotCache

Function = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class _Layer:
    norm: nn.Module
    queries_keys_values: Function  # `[b, s, hidden]` to `[b, s, (heads + 2 * key_heads) * dim]`
    output: Function
    norm_after: nn.Module
    gate_up: Function  # to gate and up side by side
    down: Function


def fits(decoder: nn.Module) -> bool:
    """Whether a decoder is one of the known ones, unchanged by hooks."""
    if type(decoder) not in (LlamaModel, MistralModel, Qwen2Model):
        return False
    if getattr(decoder.config, "hidden_act", None) != "silu":
        return False
    return not any(m._forward_hooks or m._forward_pre_hooks for m in decoder.modules())


class LeanDecoder:
    """A view of a decoder: it holds no weights of its own."""

    def __init__(self, decoder: Any) -> None:
        attention = decoder.layers[0].self_attn
        self._head_dim = int(attention.head_dim)
        self._group = int(attention.num_key_value_groups)
        self._scaling = float(attention.scaling)
        self._embedding: nn.Module = decoder.embed_tokens
        self._rotary: nn.Module = decoder.rotary_emb
        self._norm: nn.Module = decoder.norm
        self._layers = [
            _Layer(
                norm=layer.input_layernorm,
                queries_keys_values=_joined(layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj),
                output=layer.self_attn.o_proj.forward,
                norm_after=layer.post_attention_layernorm,
                gate_up=_joined(layer.mlp.gate_proj, layer.mlp.up_proj),
                down=layer.mlp.down_proj.forward,
            )
            for layer in decoder.layers
        ]

    def __call__(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor | None,
        plan: Plan | FlatPlan,
        cache: SlotCache,
        watch: LastRow | None = None,
    ) -> torch.Tensor:
        """``ids`` `[batch, span]` and ``attention.causal_mask`` to final states `[batch, span, hidden]`.

        In a flat pass the rows have masks of their own.
        """
        flat = plan if isinstance(plan, FlatPlan) else None
        states: torch.Tensor = self._embedding(ids)
        cos, sin = self._rotary(states, position_ids=plan.positions)
        half = self._head_dim // 2
        cos, sin = cos.unsqueeze(2), torch.cat([-sin[..., :half], sin[..., half:]], dim=-1).unsqueeze(2)
        for index, layer in enumerate(self._layers):
            asked = watch if watch is not None and watch.layer == index else None
            attended = self._attend(index, layer, _normed(layer.norm, states), (cos, sin), mask, cache, flat, asked)
            states = states + layer.output(attended)
            gate, up = layer.gate_up(_normed(layer.norm_after, states)).chunk(2, dim=-1)
            states = states + layer.down(functional.silu(gate).mul_(up))
        return _normed(self._norm, states)

    def _attend(
        self,
        index: int,
        layer: _Layer,
        states: torch.Tensor,
        rotation: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor | None,
        cache: SlotCache,
        flat: FlatPlan | None,
        watch: LastRow | None,
    ) -> torch.Tensor:
        """One layer's attention, before its output projection: `[batch, span, heads * dim]`."""
        batch, span, _ = states.shape
        dim, group, half = self._head_dim, self._group, self._head_dim // 2
        every = layer.queries_keys_values(states).view(batch, span, -1, dim)
        key_heads = every.shape[2] // (group + 2)
        turning = every[:, :, :-key_heads]
        cos, sin = rotation
        # rotate_half with the sign in the sine: the same products and the same sum, on queries and keys together.
        swapped = torch.cat((turning[..., half:], turning[..., :half]), dim=-1)
        turned = (turning * cos).add_(swapped.mul_(sin)).transpose(1, 2)
        heads = group * key_heads
        keys, values = cache.update(turned[:, heads:], every[:, :, -key_heads:].transpose(1, 2), index)
        if flat is not None:
            seen = flat_attention(turned[:, :heads], cache, flat, index, self._scaling, watch)
            return seen.reshape(batch, span, heads * dim)
        if watch is not None:
            watch.take(turned[:, :heads], keys, self._scaling)
        queries = turned[:, :heads].reshape(batch, key_heads, group * span, dim)
        out = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=self._scaling)
        return out.view(batch, heads, span, dim).transpose(1, 2).reshape(batch, span, heads * dim)


def _normed(norm: Any, states: torch.Tensor) -> torch.Tensor:
    """RMSNorm as transformers rounds it: the factor in float32, the product with the weight in the model's type."""
    if states.dtype == torch.float32:
        return functional.rms_norm(states, norm.weight.shape, norm.weight, norm.variance_epsilon)
    wide = states.float()
    factor = wide.square().mean(-1, keepdim=True).add_(norm.variance_epsilon).rsqrt_()
    return cast(torch.Tensor, norm.weight * wide.mul_(factor).to(states.dtype))


def _joined(*modules: nn.Module) -> Function:
    """Several linear layers of one input as one function; they share one product where they were packed together."""
    whole = linear.whole_of(modules)
    if whole is not None:
        return whole.forward
    functions = [module.forward for module in modules]
    return lambda states: torch.cat([function(states) for function in functions], dim=-1)
