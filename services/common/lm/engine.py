"""One padded forward pass over rows of different lengths: what the draft model and the target model both run on.

The engine knows rows, positions and tokens, nothing of sessions, rounds or sampling. It is synchronous and has one
user at a time: services call it from a worker thread, never from an event loop.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from services.common.lm import attention, lean, parts
from services.common.lm.cache import Plan, SlotCache


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

        ``span`` is the longest of ``tokens``; shorter ones are padded on the right and their tail is meaningless. ``watch``
        gets one layer's attention; raises ``ValueError`` where the model has no such layer or its own way of attending.
        """
        span = max(len(t) for t in tokens)
        room = self.cache.capacity_tokens - span
        if max(starts) > room:
            raise ValueError(f"a row would grow beyond the {self.cache.capacity_tokens} tokens of its slot")
        padded = torch.zeros(len(tokens), span, dtype=torch.long)
        for b, row in enumerate(tokens):
            padded[b, : len(row)] = torch.tensor(row, dtype=torch.long)
        plan = self.cache.begin(list(rows), list(starts), span, self.device)
        mask = attention.causal_mask(plan.positions, plan.kv_tokens, self._group, self._dtype)
        if watch is not None:
            watch.begin([len(row) for row in tokens], plan.positions)
        states = self._pass(padded.to(self.device), mask, plan, watch)
        if watch is not None and watch.weights is None:
            raise ValueError(f"attention of layer {watch.layer} cannot be read in this model")
        return states

    def _pass(self, ids: torch.Tensor, mask: torch.Tensor, plan: Plan, watch: attention.LastRow | None) -> torch.Tensor:
        if self._lean is not None:
            return self._lean(ids, mask, plan, self.cache, watch)
        out = self._decoder(
            input_ids=ids,
            attention_mask=mask,
            position_ids=plan.positions,
            past_key_values=self.cache,
            use_cache=True,
            **({} if watch is None else {"watch": watch}),
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
