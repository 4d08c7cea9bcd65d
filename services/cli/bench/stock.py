"""What a user has without Sluice: the large model alone, and transformers' assisted generation."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch

from services.common.lm.engine import CausalEngine
from services.common.lm.loading import LoadedModel
from services.common.sampling import Sampling
from services.common.warp import distribution

BF16_MANTISSA_BITS = 7


class LlmOnly:
    """The target alone in Sluice's own engine with the fastest weights that keep its numbers: the strongest local baseline."""

    def __init__(self, target: LoadedModel, context_tokens: int) -> None:
        self._target = target
        self._engine = CausalEngine(target.model, slots=1, capacity_tokens=context_tokens)

    def write(self, prompt: Sequence[int], *, max_tokens: int, sampling: Sampling, seed: int) -> tuple[list[int], float]:
        """Answer ids and seconds, prompt included."""
        generator = torch.Generator().manual_seed(seed)
        started = time.monotonic()
        ids, fed = list(prompt), 0
        while len(ids) - len(prompt) < max_tokens and (len(ids) == len(prompt) or ids[-1] not in self._target.end_ids):
            states = self._engine.hidden([0], [fed], [ids[fed:]])
            fed = len(ids)
            p = distribution(self._engine.logits(states[0, -1:])[:, : self._target.vocabulary], sampling)[0]
            ids.append(int(torch.multinomial(p, 1, generator=generator)))
        return ids[len(prompt) :], time.monotonic() - started


class Stock:
    """Plain bfloat16 models in transformers' own `generate`."""

    def __init__(self, draft: LoadedModel, target: LoadedModel) -> None:
        self._draft, self._target = draft, target

    def generate(
        self, prompt: Sequence[int], *, max_tokens: int, sampling: Sampling, seed: int, assisted: bool
    ) -> tuple[list[int], float]:
        """Answer ids and seconds, prompt included."""
        torch.manual_seed(seed)
        options: dict[str, Any] = {"max_new_tokens": max_tokens, "do_sample": not sampling.greedy}
        if not sampling.greedy:
            options |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
        if assisted:
            options["assistant_model"] = self._draft.model
        ids = torch.tensor([list(prompt)])
        model: Any = self._target.model
        end = sorted(self._target.end_ids)
        started = time.monotonic()
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), eos_token_id=end, pad_token_id=end[0], **options)
        return out[0, len(prompt) :].tolist(), time.monotonic() - started

    def is_tie(self, prefix: Sequence[int], one: int, other: int) -> bool:
        """Whether the two tokens are this model's two best after ``prefix`` and lie within bfloat16 rounding of each other."""
        model: Any = self._target.model
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([list(prefix)])).logits[0, -1].float()
        best = logits.topk(2)
        unit = 2.0 ** (math.floor(math.log2(abs(float(best.values[0])) + 1e-9)) - BF16_MANTISSA_BITS)
        return {one, other} == set(best.indices.tolist()) and float(best.values[0] - best.values[1]) <= 2 * unit
