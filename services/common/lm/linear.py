"""Formats of linear layers on a CPU: `nn.Linear` swapped in place for a module that holds its weights another way.

One new token costs one reading of all weights, so bytes decide; several cost arithmetic, and there eager bfloat16 does
badly because oneDNN repacks the weights at every call. ``bf16-packed`` packs them once and gives the same numbers;
``int8`` and ``int4`` are other numbers, good enough for a draft, whose ``x`` is whatever it sampled from.

The operators are torch's own but private (what inductor's freezing and torchao call): the public ways to them compile
with a C++ compiler at start-up. Each is probed before use, and a layer it does not fit stays as it was.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from services.common.lm import int4, parts

FLOAT32, BF16, PACKED, INT8, INT4 = "float32", "bf16", "bf16-packed", "int8", "int4"
FORMATS = (FLOAT32, BF16, PACKED, INT8, INT4)
SAME_NUMBERS = (BF16, PACKED)  # equal to each other up to rounding: what a target may choose among

_TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))

# The kernels for few rows lose to a dense product from here on; below, expanding the weights costs more than it saves.
_INT8_ROWS_MAX = 16
_INT4_ROWS_MAX = 48


class PackedLinear(nn.Module):
    """bfloat16 weights in oneDNN's blocked layout; rows in any number."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach().bfloat16().contiguous()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, 1)
        self.bias = _bias(linear)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[..., in]` to `[..., out]`, bfloat16."""
        return cast(torch.Tensor, torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], ""))


class Int8Linear(nn.Module):
    """Signed bytes with one bfloat16 scale per output."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach().float()
        # Rounded before it divides, so that the stored scale is the one the bytes were made for.
        self.scale = (weight.abs().amax(dim=1).clamp(min=1e-8) / 127).bfloat16()
        self.q = (weight / self.scale.float().unsqueeze(1)).round_().clamp_(-127, 127).to(torch.int8)
        self.bias = _bias(linear)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[..., in]` to `[..., out]`, bfloat16."""
        rows = x.reshape(-1, self.in_features)
        if len(rows) <= _INT8_ROWS_MAX:
            out = torch._weight_int8pack_mm(rows, self.q, self.scale)
        else:
            out = nn.functional.linear(rows, self.q.bfloat16()) * self.scale
        if self.bias is not None:
            out = out + self.bias
        return out.view(*x.shape[:-1], self.out_features)


class Int4Linear(nn.Module):
    """Four bits in groups of 32 (`int4`); a layer of a shipped draft keeps the very entries that were stored."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        stored = getattr(linear, "int4", None)
        if stored is None:
            q, self.scales_zeros = int4.quantize(linear.weight)
            self.stored = int4.pack(q)
        else:
            self.stored, self.scales_zeros = stored
            q = int4.unpack(self.stored)
        self.packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(q, 2)
        self.bias = _bias(linear)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[..., in]` to `[..., out]`, bfloat16."""
        rows = x.reshape(-1, self.in_features)
        if len(rows) <= _INT4_ROWS_MAX:
            out = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self.packed, int4.GROUP, self.scales_zeros)
        else:
            out = nn.functional.linear(rows, self._dense())
        if self.bias is not None:
            out = out + self.bias
        return cast(torch.Tensor, out.view(*x.shape[:-1], self.out_features))

    def _dense(self) -> torch.Tensor:
        """The weight `[out, in]` in bfloat16, for many rows at once (a prompt)."""
        halves = torch.stack([self.stored & 15, self.stored >> 4], dim=-1).to(torch.bfloat16).sub_(8)
        groups = halves.view(self.out_features, self.in_features // int4.GROUP, int4.GROUP)
        scale, zero = self.scales_zeros.permute(2, 1, 0).unsqueeze(-1)  # each [out, groups, 1]
        return groups.mul_(scale).add_(zero).view(self.out_features, self.in_features)


def _bias(linear: nn.Linear) -> torch.Tensor | None:
    bias = cast(torch.Tensor | None, linear.bias)
    return None if bias is None else bias.detach().bfloat16()


MODULES: dict[str, type[nn.Module]] = {PACKED: PackedLinear, INT8: Int8Linear, INT4: Int4Linear}


def fits(linear: nn.Linear, weights: str) -> bool:
    """Whether a format can hold a layer of this shape."""
    if weights == INT8:
        return linear.in_features % 32 == 0  # the kernel reads past the end of other rows
    if weights == INT4:
        return linear.in_features % int4.GROUP == 0 and linear.out_features % 16 == 0
    return True


@functools.cache
def available(weights: str) -> bool:
    """Whether this build of torch on this processor runs a format (tried on a small layer)."""
    if weights not in MODULES:
        return True
    layer = nn.Linear(64, 64, bias=True).bfloat16()
    try:
        with torch.inference_mode():
            out = MODULES[weights](layer)(torch.zeros(2, 64, dtype=torch.bfloat16))
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return bool(torch.isfinite(out).all())


class Share(nn.Module):
    """Some outputs of a layer that was packed together with its neighbours; alone it computes them all and cuts."""

    def __init__(self, whole: nn.Module, start: int, stop: int) -> None:
        super().__init__()
        self.whole, self.start, self.stop = whole, start, stop

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[..., in]` to `[..., stop - start]`."""
        return cast(torch.Tensor, self.whole(x)[..., self.start : self.stop])


def whole_of(modules: Sequence[nn.Module]) -> nn.Module | None:
    """The layer that computes exactly ``modules`` side by side, if they were packed together."""
    shares = [m for m in modules if isinstance(m, Share)]
    return shares[0].whole if len(shares) == len(modules) and len({id(m.whole) for m in shares}) == 1 else None


@torch.inference_mode()
def convert(model: PreTrainedModel, weights: str) -> int:
    """Swap the linear layers of a bfloat16 CPU model in place; the originals are freed. Returns how many were swapped.

    The embedding stays. With ``int4`` the head becomes ``int8``: its errors reach the distribution directly, and in a
    small model four bits there cost more acceptance than the time they save. Queries, keys and values, and the two
    inputs of a gated unit, are packed together: one call instead of three.
    """
    if weights not in FORMATS:
        raise ValueError(f"unknown weight format {weights!r}: choose one of {', '.join(FORMATS)}")
    if weights not in MODULES or not available(weights):
        return 0
    head = parts.head(model)
    swapped = 0
    for parent in list(model.modules()):
        for names in _TOGETHER:
            swapped += _swap_together(parent, names, weights)
        for name, child in list(parent.named_children()):
            if type(child) is not nn.Linear:
                continue
            wanted = INT8 if weights == INT4 and child is head and available(INT8) else weights
            if fits(child, wanted):
                setattr(parent, name, MODULES[wanted](child))
                swapped += 1
    return swapped


def _swap_together(parent: nn.Module, names: tuple[str, ...], weights: str) -> int:
    """Pack the layers ``names`` of ``parent`` as one, if they are there and alike."""
    layers = [layer for layer in (getattr(parent, name, None) for name in names) if type(layer) is nn.Linear]
    alike = len({(layer.in_features, layer.bias is None, hasattr(layer, "int4")) for layer in layers}) == 1
    if len(layers) < len(names) or not alike or not all(fits(layer, weights) for layer in layers):
        return 0
    whole = MODULES[weights](_stacked(layers))
    start = 0
    for name, layer in zip(names, layers, strict=True):
        setattr(parent, name, Share(whole, start, start + layer.out_features))
        start += layer.out_features
    return len(layers)


def _stacked(layers: Sequence[nn.Linear]) -> nn.Linear:
    """One layer with the outputs of several, stored four bits included."""
    stacked: Any = nn.Linear(layers[0].in_features, sum(layer.out_features for layer in layers), bias=False, device="meta")
    stacked.weight = nn.Parameter(torch.cat([layer.weight for layer in layers]), requires_grad=False)
    if layers[0].bias is not None:
        stacked.bias = nn.Parameter(torch.cat([layer.bias for layer in layers]), requires_grad=False)
    if hasattr(layers[0], "int4"):
        stored = [cast(tuple[torch.Tensor, torch.Tensor], layer.int4) for layer in layers]
        stacked.int4 = torch.cat([q for q, _ in stored]), torch.cat([scales for _, scales in stored], dim=1).contiguous()
    return cast(nn.Linear, stacked)
