"""The distance that distillation makes small: total variation, helped by the forward KL divergence.

Mean acceptance of speculative sampling is ``E[sum_t min(x_t, y_t)] = 1 - E[TV(x, y)]`` (Leviathan et al. 2023, section 3;
DistillSpec and the LK losses train on it directly). The total variation alone has a vanishing gradient where draft and
target hardly
overlap, so it is mixed with ``KL(y || x)``. Logits over a vocabulary of 49,152 entries would fill the memory, hence the
loss and its gradient with respect to the draft's final states are computed together, chunk by chunk.
"""

from __future__ import annotations

from typing import Any

import torch


class DistillationLoss(torch.autograd.Function):
    """Mean total variation over positions; its gradient is mixed with that of ``kl_weight * KL(y || x)``.

    ``draft_states`` and ``target_states`` `[n, hidden]`, ``head`` `[vocabulary, hidden]` shared by both and frozen.
    Returns the mean total variation; the mean acceptance is one minus it.
    """

    @staticmethod
    def forward(
        ctx: Any, draft_states: torch.Tensor, target_states: torch.Tensor, head: torch.Tensor, kl_weight: float, chunk: int
    ) -> torch.Tensor:
        gradient = torch.empty_like(draft_states)
        distance = 0.0
        n = len(draft_states)
        for i in range(0, n, chunk):
            piece = slice(i, i + chunk)
            x = torch.softmax(draft_states[piece] @ head.T, dim=-1, dtype=torch.float32)
            y = torch.softmax(target_states[piece] @ head.T, dim=-1, dtype=torch.float32)
            below = (x < y).float()
            mass = (x * below).sum(dim=-1, keepdim=True)
            distance += float(((y * below).sum(dim=-1, keepdim=True) - mass).sum())
            logits_gradient = below.sub_(mass).mul_(x).mul_(kl_weight - 1)
            if kl_weight:
                logits_gradient.add_(x.sub_(y), alpha=kl_weight)
            gradient[piece] = logits_gradient.to(head.dtype) @ head / n
        ctx.save_for_backward(gradient)
        return torch.tensor(distance / n)

    @staticmethod
    def backward(ctx: Any, *outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * outputs[0], None, None, None, None


@torch.inference_mode()
def acceptance(draft_states: torch.Tensor, target_states: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
    """``sum_t min(x_t, y_t)`` per position `[n]` from final states `[n, hidden]` and the shared ``head``."""
    pieces = []
    for i in range(0, len(draft_states), 256):
        x = torch.softmax((draft_states[i : i + 256] @ head.T).float(), dim=-1)
        y = torch.softmax((target_states[i : i + 256] @ head.T).float(), dim=-1)
        pieces.append(torch.minimum(x, y).sum(dim=-1))
    return torch.cat(pieces)
