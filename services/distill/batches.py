"""Samples to padded batches, and the places in them that predict answer tokens."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from services.distill.corpus import Sample


@dataclass(frozen=True)
class Batch:
    """``ids`` `[rows, longest]` padded on the right; ``places`` `[n, 2]` (row, column); ``states`` `[n, hidden]` of the
    target."""

    ids: torch.Tensor
    places: torch.Tensor
    states: torch.Tensor


def collate(samples: Sequence[Sample]) -> Batch:
    longest = max(len(s.ids) for s in samples) - 1
    ids = torch.zeros(len(samples), longest, dtype=torch.long)
    places = []
    for row, sample in enumerate(samples):
        ids[row, : len(sample.ids) - 1] = sample.ids[:-1]
        columns = torch.arange(sample.prompt_tokens - 1, len(sample.ids) - 1)
        places.append(torch.stack([torch.full_like(columns, row), columns], dim=1))
    return Batch(ids, torch.cat(places), torch.cat([s.states for s in samples]))


def groups(samples: Sequence[Sample], batch_tokens: int, seed: int) -> list[list[Sample]]:
    """One epoch in random order; rows of similar length share a group of about ``batch_tokens`` padded tokens."""
    rng = random.Random(seed)
    order = list(samples)
    rng.shuffle(order)
    ready: list[list[Sample]] = []
    for i in range(0, len(order), 256):
        rows: list[Sample] = []
        for sample in sorted(order[i : i + 256], key=lambda s: len(s.ids)):
            if rows and (len(rows) + 1) * len(sample.ids) > batch_tokens:
                ready.append(rows)
                rows = []
            rows.append(sample)
        ready.append(rows)
    rng.shuffle(ready)
    return ready
