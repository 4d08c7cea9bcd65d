"""The real target, loaded once, and what transformers itself says about it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from services.common.lm.engine import CausalEngine
from services.common.lm.loading import LoadedModel
from services.common.sampling import Sampling
from services.common.speculative import SpanToken, Sparse
from services.verifier.engine import TargetEngine
from services.verifier.scheduler import Round
from services.verifier.slots import SlotTable

PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a village at the foot of a mountain, there lived an old clockmaker who",
    "def fibonacci(n):\n    ",
    "Water",
)

GREEDY = Sampling(temperature=0.0)


def engine(loaded: LoadedModel, slots: int = 4, capacity_tokens: int = 256) -> tuple[TargetEngine, SlotTable]:
    table = SlotTable(slots)
    causal = CausalEngine(loaded.model, slots=slots, capacity_tokens=capacity_tokens)
    return TargetEngine(causal, table, vocabulary=loaded.vocabulary), table


def ids_of(loaded: LoadedModel, text: str) -> list[int]:
    return [int(t) for t in loaded.tokenizer(text)["input_ids"]]


@torch.inference_mode()
def greedy(loaded: LoadedModel, ids: Sequence[int], count: int) -> list[int]:
    """What transformers' own ``generate`` writes, greedily, without stopping at an end token."""
    out = loaded.model.generate(  # type: ignore[operator]
        torch.tensor([list(ids)]),
        attention_mask=torch.ones(1, len(ids)),
        max_new_tokens=count,
        min_new_tokens=count,
        do_sample=False,
    )
    return [int(t) for t in out[0, len(ids) :]]


def candidates(ids: Sequence[int]) -> list[SpanToken]:
    """Greedy drafts, all of them candidates."""
    return [SpanToken(t, 1.0, Sparse.certain(t)) for t in ids]


def round_(
    session: bytes,
    base: list[int],
    span: list[SpanToken],
    *,
    sampling: Sampling = GREEDY,
    seed: int = 0,
    number: int = 0,
    want_bonus: bool = True,
) -> Round:
    return Round(session, base, span, sampling, seed, number, want_bonus, deadline=float("inf"))
