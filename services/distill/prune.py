"""Which of the target's layers the draft starts from: greedy removal of the layer whose loss hurts acceptance least."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from transformers import PreTrainedModel

from services.distill import net
from services.distill.batches import Batch
from services.distill.objective import acceptance


@torch.inference_mode()
def greedy(
    target: PreTrainedModel, batch: Batch, keep: int, on_removed: Callable[[int, float], None] = lambda *_: None
) -> list[int]:
    """Indices of the ``keep`` layers that stay, in order. The target is given back unchanged."""
    decoder = net.decoder(target)
    every = decoder.layers
    head = net.head_weight(target)
    kept = list(range(len(every)))

    def score(layers: list[int]) -> float:
        decoder.layers = nn.ModuleList(every[i] for i in layers)
        states = decoder(input_ids=batch.ids, use_cache=False).last_hidden_state
        return float(acceptance(states[batch.places[:, 0], batch.places[:, 1]], batch.states, head).mean())

    try:
        while len(kept) > keep:
            scores = {i: score([j for j in kept if j != i]) for i in kept}
            worst = max(scores, key=scores.__getitem__)
            kept.remove(worst)
            on_removed(worst, scores[worst])
    finally:
        decoder.layers = every
    return kept
