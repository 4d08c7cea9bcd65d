"""Four-bit weights in groups along the input dimension: the format the shipped draft is stored and run in.

``w = (q - 8) * scale + zero`` with ``q`` in 0..15 and bfloat16 ``scale`` and ``zero`` per group, which is what torch's
int4 matrix kernels read; storage packs two ``q`` to a byte. Pure functions of tensors.
"""

from __future__ import annotations

import torch

GROUP = 32


def quantize(weight: torch.Tensor, group: int = GROUP) -> tuple[torch.Tensor, torch.Tensor]:
    """``weight`` `[out, in]` to ``q`` `[out, in]` (int32, 0..15) and scales-and-zeros `[in / group, out, 2]` (bfloat16)."""
    out_features, in_features = weight.shape
    if in_features % group:
        raise ValueError(f"{in_features} input features are no multiple of the group size {group}")
    groups = weight.detach().float().reshape(out_features, in_features // group, group)
    low, high = groups.amin(dim=-1), groups.amax(dim=-1)
    scale = ((high - low) / 15).clamp(min=1e-8).bfloat16().float()
    zero = (low + 8 * scale).bfloat16().float()
    q = ((groups - zero.unsqueeze(-1)) / scale.unsqueeze(-1) + 8).round_().clamp_(0, 15)
    scales_zeros = torch.stack([scale.T, zero.T], dim=-1).bfloat16().contiguous()
    return q.reshape(out_features, in_features).int(), scales_zeros


def dequantize(q: torch.Tensor, scales_zeros: torch.Tensor) -> torch.Tensor:
    """The float32 weight `[out, in]` that ``quantize`` stands for."""
    out_features, in_features = q.shape
    scale, zero = scales_zeros.float().permute(2, 1, 0).unsqueeze(-1)  # each [out, groups, 1]
    groups = q.reshape(out_features, scale.shape[1], -1).float()
    weight: torch.Tensor = ((groups - 8) * scale + zero).reshape(out_features, in_features)
    return weight


def pack(q: torch.Tensor) -> torch.Tensor:
    """Two entries to a byte: `[out, in]` to `[out, in / 2]` uint8, even columns in the low half."""
    return (q[:, ::2] | (q[:, 1::2] << 4)).to(torch.uint8)


def unpack(packed: torch.Tensor) -> torch.Tensor:
    """The inverse of ``pack``: `[out, in / 2]` uint8 to `[out, in]` int32."""
    return torch.stack([packed & 15, packed >> 4], dim=-1).reshape(len(packed), -1).int()
