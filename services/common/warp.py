"""Logits to the distribution that is sampled from: one function for the draft and for the target.

Temperature, top-k and top-p in that order, as `transformers` and vLLM apply them; penalties and bias come before, on the
logits (they need the text so far). ``temperature = 0`` is greedy: all mass on the arg max (the lowest id on a tie).
"""

from __future__ import annotations

import torch

from services.common.sampling import Sampling


def distribution(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """``logits`` `[n, vocabulary]` to probabilities `[n, vocabulary]`, float32."""
    logits = logits.float()
    if sampling.greedy:
        return torch.nn.functional.one_hot(logits.argmax(dim=-1), logits.shape[-1]).float()
    logits = logits / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    p = torch.softmax(logits, dim=-1)
    if sampling.top_p < 1.0:
        ordered, index = p.sort(dim=-1, descending=True, stable=True)
        outside = ordered.cumsum(dim=-1) - ordered >= sampling.top_p
        ordered = ordered.masked_fill(outside, 0.0)
        p = torch.zeros_like(p).scatter_(-1, index, ordered)
        p = p / p.sum(dim=-1, keepdim=True)
    return p
