"""One forward pass over rows of different lengths: what the draft model and the target model both run on.

The engine knows rows, positions and tokens, nothing of sessions, rounds or sampling. It is synchronous and has one
user at a time: services call it from a worker thread, never from an event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from services.common.lm import attention, lean, parts
from services.common.lm.cache import FlatPlan, Plan, Segment, SlotCache

ALIKE = 1.25  # a padded pass may read so much more than the rows hold: one product for all of them is cheaper than one for each


class CausalEngine:
    """A causal language model with its slots.

    ``capacity_tokens`` bounds prompt plus answer of one row; ``slots`` bounds the rows held at once.
    """

    def __init__(self, model: PreTrainedModel, *, slots: int, capacity_tokens: int) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self.cache = SlotCache(slots, capacity_tokens)
        self._decoder = parts.decoder(model)
        self._head = parts.head(model)
        self._group = attention.use(model)
        self._lean = lean.LeanDecoder(self._decoder) if self._group and lean.fits(self._decoder) else None
        self._dtype = next(model.parameters()).dtype
        self._softcap: float | None = getattr(model.config, "final_logit_softcapping", None)

    @torch.inference_mode()
    def hidden(
        self,
        rows: Sequence[int],
        starts: Sequence[int],
        tokens: Sequence[Sequence[int]],
        watch: attention.LastRow | None = None,
    ) -> torch.Tensor:
        """Feed ``tokens[b]`` to slot ``rows[b]`` from position ``starts[b]``; final states `[batch, span, hidden]`.

        ``span`` is the longest of ``tokens``; shorter ones are padded on the right and their tail is meaningless. Only the
        result is padded: rows that differ share the pass without padding. ``watch`` gets one layer's attention; raises
        ``ValueError`` where the model has no such layer or its own way of attending.
        """
        run = self._flat if self._pays(rows, starts, tokens) else self._padded
        states = run(rows, starts, tokens, watch)
        if watch is not None and watch.weights is None:
            raise ValueError(f"attention of layer {watch.layer} cannot be read in this model")
        return states

    def _pays(self, rows: Sequence[int], starts: Sequence[int], tokens: Sequence[Sequence[int]]) -> bool:
        """Whether to go without padding: not where rows in adjacent slots are so alike that one product serves them."""
        if not self._group or len(rows) == 1:
            return False
        spans, stops = [len(t) for t in tokens], [at + len(t) for at, t in zip(starts, tokens, strict=True)]
        adjacent = list(rows) == list(range(rows[0], rows[0] + len(rows)))
        return not (adjacent and min(spans) == max(spans) and sum(stops) * ALIKE > max(stops) * len(stops))

    def _flat(
        self, rows: Sequence[int], starts: Sequence[int], tokens: Sequence[Sequence[int]], watch: attention.LastRow | None
    ) -> torch.Tensor:
        segments, at = [], 0
        for row, start, new in zip(rows, starts, tokens, strict=True):
            stop = start + len(new)
            positions = torch.arange(start, stop, device=self.device).unsqueeze(0)
            mask = attention.causal_mask(positions, stop, self._group, self._dtype) if len(new) > 1 else None
            segments.append(Segment(row, at, len(new), start, mask))
            at += len(new)
        plan = self.cache.begin_flat(segments, self.device)
        ids = torch.tensor([[token for new in tokens for token in new]], dtype=torch.long, device=self.device)
        if watch is not None:
            watch.begin([], plan.positions)
        states = self._pass(ids, None, plan, watch)[0]
        return pad_sequence([states[s.at : s.at + s.tokens] for s in segments], batch_first=True)

    def _padded(
        self, rows: Sequence[int], starts: Sequence[int], tokens: Sequence[Sequence[int]], watch: attention.LastRow | None
    ) -> torch.Tensor:
        span = max(len(t) for t in tokens)
        room = self.cache.capacity_tokens - span
        if max(starts) > room:
            raise ValueError(f"a row would grow beyond the {self.cache.capacity_tokens} tokens of its slot")
        padded = torch.zeros(len(tokens), span, dtype=torch.long)
        for b, row in enumerate(tokens):
            padded[b, : len(row)] = torch.tensor(row, dtype=torch.long)
        plan = self.cache.begin(list(rows), list(starts), span, self.device)
        mask = attention.causal_mask(plan.positions, plan.kv_tokens, max(1, self._group), self._dtype)
        if watch is not None:
            watch.begin([len(row) for row in tokens], plan.positions)
        return self._pass(padded.to(self.device), mask, plan, watch)

    def _pass(
        self, ids: torch.Tensor, mask: torch.Tensor | None, plan: Plan | FlatPlan, watch: attention.LastRow | None
    ) -> torch.Tensor:
        if self._lean is not None:
            return self._lean(ids, mask, plan, self.cache, watch)
        extra: dict[str, Any] = {} if watch is None else {"watch": watch}
        if isinstance(plan, FlatPlan):
            extra["flat"] = (self.cache, plan)
            mask = torch.zeros(1, 1, 1, 1, dtype=self._dtype, device=self.device)  # so that none is made: rows have their own
        out = self._decoder(
            input_ids=ids,
            attention_mask=mask,
            position_ids=plan.positions,
            past_key_values=self.cache,
            use_cache=True,
            **extra,
        )
        states: torch.Tensor = out.last_hidden_state
        return states

    @torch.inference_mode()
    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Final states `[n, hidden]` to logits `[n, vocabulary]`, float32."""
        out: torch.Tensor = self._head(states).float()
        if self._softcap:
            out = torch.tanh(out / self._softcap) * self._softcap
        return out
