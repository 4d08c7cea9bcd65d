"""A KV cache in preallocated slots, one row per session, that any Hugging Face decoder can write into.

`transformers` models only ask one thing of a cache: ``update(keys, values, layer)`` stores the new states and returns all
states to attend to. ``SlotCache`` stores them in place at each row's own position, so that sessions of different
lengths share one forward pass, a roll-back costs nothing (the caller passes a smaller start) and memory is
bounded by ``slots * capacity_tokens`` from the beginning.

A pass is *padded* (`[batch, span]`, every row read up to the longest) or *flat* (all tokens in one row `[1, tokens]`, each
row read up to its own end): a flat pass costs what its tokens cost, whatever else the rows hold.

Invariant: one writer. Entries at or after a row's start are garbage until the next pass writes them; the mask hides them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Plan:
    """Where one padded pass reads and writes."""

    rows: torch.Tensor  # [batch] slot of each batch row
    positions: torch.Tensor  # [batch, span] position of each new token
    kv_tokens: int  # columns to attend to: the longest row after this pass
    block: slice | None  # adjacent slots in order are read as a view, without a gather
    span: slice | None  # the new positions, where they are the same for all rows and these adjacent


@dataclass(frozen=True)
class Segment:
    """One row's part of a flat pass: ``tokens`` of it from ``at`` on; they go to ``start`` and after in slot ``row``."""

    row: int
    at: int
    tokens: int
    start: int
    mask: torch.Tensor | None  # as ``attention.causal_mask`` makes it; none where a single token sees all of its row

    @property
    def stop(self) -> int:
        return self.start + self.tokens


@dataclass(frozen=True)
class FlatPlan:
    """Where one flat pass reads and writes."""

    rows: torch.Tensor  # [tokens] slot of each token
    positions: torch.Tensor  # [1, tokens]
    segments: tuple[Segment, ...]


class SlotCache:
    """Keys and values `[slots, kv_heads, capacity_tokens, head_dim]` per layer, allocated at first use.

    One row costs ``2 * layers * kv_heads * capacity_tokens * head_dim`` elements.
    """

    is_compileable = False

    def __init__(self, slots: int, capacity_tokens: int) -> None:
        self.slots = slots
        self.capacity_tokens = capacity_tokens
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self._plan: Plan | FlatPlan | None = None

    def begin(self, rows: list[int], starts: list[int], span: int, device: torch.device) -> Plan:
        """Set the rows and positions of the pass to come: batch row ``b`` writes ``starts[b] .. starts[b] + span``."""
        row_ids = torch.tensor(rows, device=device)
        positions = torch.tensor(starts, device=device).unsqueeze(1) + torch.arange(span, device=device)
        stop = max(starts) + span
        if stop > self.capacity_tokens:
            raise ValueError(f"a pass up to position {stop} does not fit a slot of {self.capacity_tokens} tokens")
        adjacent = rows == list(range(rows[0], rows[0] + len(rows)))
        block = slice(rows[0], rows[0] + len(rows)) if adjacent else None
        same = block is not None and min(starts) == max(starts)
        self._plan = Plan(row_ids, positions, stop, block, slice(starts[0], stop) if same else None)
        return self._plan

    def begin_flat(self, segments: Sequence[Segment], device: torch.device) -> FlatPlan:
        """Set the rows and positions of a flat pass to come."""
        stop = max(s.stop for s in segments)
        if stop > self.capacity_tokens:
            raise ValueError(f"a pass up to position {stop} does not fit a slot of {self.capacity_tokens} tokens")
        rows = torch.tensor([s.row for s in segments for _ in range(s.tokens)], device=device)
        positions = torch.tensor([[p for s in segments for p in range(s.start, s.stop)]], device=device)
        self._plan = plan = FlatPlan(rows, positions, tuple(segments))
        return plan

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store new states `[batch, kv_heads, span, head_dim]`, return `[batch, kv_heads, kv_tokens, head_dim]`; of a flat pass
        what came is returned: each row is read by ``of``."""
        plan = self._plan
        if plan is None:
            raise RuntimeError("SlotCache.begin comes before a forward pass")
        while len(self._keys) <= layer:
            shape = (self.slots, keys.shape[1], self.capacity_tokens, keys.shape[3])
            self._keys.append(_zeros(shape, keys))
            self._values.append(_zeros(shape, values))
        all_keys, all_values = self._keys[layer], self._values[layer]
        if isinstance(plan, FlatPlan):
            all_keys[plan.rows, :, plan.positions[0]] = keys[0].transpose(0, 1)
            all_values[plan.rows, :, plan.positions[0]] = values[0].transpose(0, 1)
            return keys, values
        if plan.span is not None:
            # One row, or rows in step: a plain copy, several times cheaper than scattered writes.
            all_keys[plan.block, :, plan.span], all_values[plan.block, :, plan.span] = keys, values
        else:
            index = plan.rows.unsqueeze(1)
            all_keys[index, :, plan.positions] = keys.transpose(1, 2)
            all_values[index, :, plan.positions] = values.transpose(1, 2)
        picked = plan.rows if plan.block is None else plan.block
        return all_keys[picked, :, : plan.kv_tokens], all_values[picked, :, : plan.kv_tokens]

    def of(self, segment: Segment, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values that a segment attends to, as views `[1, kv_heads, stop, head_dim]`."""
        row = slice(segment.row, segment.row + 1)
        return self._keys[layer][row, :, : segment.stop], self._values[layer][row, :, : segment.stop]

    @torch.inference_mode()
    def copy(self, source: int, row: int, tokens: int) -> None:
        """Give ``row`` the first ``tokens`` positions of ``source``."""
        for states in (*self._keys, *self._values):
            states[row, :, :tokens] = states[source, :, :tokens]

    def get_seq_length(self, _layer: int = 0) -> int:
        """Asked by `transformers` when positions are not given; ours always are."""
        return 0

    @property
    def memory_bytes(self) -> int:
        """Bytes held by the slots allocated so far."""
        return sum(t.numel() * t.element_size() for t in (*self._keys, *self._values))


def _zeros(shape: tuple[int, int, int, int], like: torch.Tensor) -> torch.Tensor:
    """Zeros of the type and device of ``like``; on a CPU the system hands out each page at its first use only."""
    if like.device.type != "cpu":
        return torch.zeros(shape, dtype=like.dtype, device=like.device)
    memory = np.zeros(math.prod(shape) * like.element_size(), dtype=np.uint8)
    return torch.from_numpy(memory).view(like.dtype).reshape(shape)
