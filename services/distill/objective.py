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
    """Mean over positions of ``kl_weight * KL(y || x) + (1 - kl_weight) * TV(x, y)``.

    ``draft_states`` and ``target_states`` `[n, hidden]`, ``head`` `[vocabulary, hidden]` shared by both and frozen.
    Returns (loss, mean acceptance).
    """

    @staticmethod
    def forward(
        ctx: Any, draft_states: torch.Tensor, target_states: torch.Tensor, head: torch.Tensor, kl_weight: float, chunk: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        gradient = torch.empty_like(draft_states)
        loss = acceptance = 0.0
        n = len(draft_states)
        for i in range(0, n, chunk):
            piece = slice(i, i + chunk)
            x_log = torch.log_softmax((draft_states[piece] @ head.T).float(), dim=-1)
            y_log = torch.log_softmax((target_states[piece] @ head.T).float(), dim=-1)
            x, y = x_log.exp(), y_log.exp()
            overlap = torch.minimum(x, y).sum(dim=-1)
            acceptance += float(overlap.sum())
            kl = (y * y_log.sub_(x_log)).sum(dim=-1)
            loss += float((kl_weight * kl + (1 - kl_weight) * (1 - overlap)).sum())
            below = (x < y).float()
            tv_gradient = x * ((x * below).sum(dim=-1, keepdim=True) - below)
            logits_gradient = tv_gradient.mul_(1 - kl_weight).add_(x.sub_(y), alpha=kl_weight)
            gradient[piece] = logits_gradient.to(head.dtype) @ head / n
        ctx.save_for_backward(gradient)
        return torch.tensor(loss / n), torch.tensor(acceptance / n)

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
