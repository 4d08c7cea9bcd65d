"""The target model at work: prefixes into slots, and spans into judgements. Synchronous, for one thread.

Several sessions of different lengths share one padded forward pass.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from services.common.codec import MAX_SPAN_TOKENS
from services.common.lm import loading
from services.common.lm.engine import CausalEngine
from services.common.lm.errors import ModelError
from services.common.lm.loading import LoadedModel
from services.common.sampling import Sampling
from services.common.settings import ConfigError
from services.common.speculative import Judged, Row, SpanToken, judge
from services.common.warp import distribution
from services.verifier import feed
from services.verifier.feed import Feed, Pass
from services.verifier.scheduler import Chunk, Round
from services.verifier.settings import VerifierSettings
from services.verifier.slots import SlotTable

WARM_UP = b"warm-up"
SPANS = (1, 2, 4, 8, 16)


class TargetEngine:
    """``vocabulary``: true entries of a logit row; what a model pads behind them is cut off before anything is drawn."""

    def __init__(self, engine: CausalEngine, slots: SlotTable, *, vocabulary: int) -> None:
        self._engine = engine
        self._slots = slots
        self._vocabulary = vocabulary

    def prefill(self, chunks: list[Chunk]) -> Pass:
        feeds = feed.of_chunks(self._slots, chunks)
        self._hidden(feeds)
        return feed.done(feeds)

    def verify(self, rounds: list[Round]) -> tuple[list[Judged], Pass]:
        feeds = feed.of_rounds(self._slots, rounds)
        states = self._hidden(feeds)
        cost = feed.done(feeds)
        wanted = [states[b, len(f.tokens) - r.rows : len(f.tokens)] for b, (f, r) in enumerate(zip(feeds, rounds, strict=True))]
        logits = self._engine.logits(torch.cat(wanted))[:, : self._vocabulary]
        judged, at = [], 0
        for item in rounds:
            judged.append(self._judge(item, logits[at : at + item.rows]))
            at += item.rows
        return judged, cost

    def forget(self, sessions: list[bytes]) -> None:
        for session in sessions:
            self._slots.drop(session)

    @property
    def cache_bytes(self) -> int:
        """Memory of the slots; it does not grow once a pass has run."""
        return self._engine.cache.memory_bytes

    def _hidden(self, feeds: list[Feed]) -> torch.Tensor:
        for f in feeds:
            if f.source is not None:
                self._engine.cache.copy(f.source, f.slot.row, f.start)
        return self._engine.hidden([f.slot.row for f in feeds], [f.start for f in feeds], [f.tokens for f in feeds])

    def law(self, item: Round, logits: torch.Tensor) -> list[Row]:
        """``y`` of each row of a round, from its ``logits`` `[rows, vocabulary]`. Raises ``ValueError`` where they are not
        finite."""
        y: list[Row] = list(distribution(logits, item.sampling).cpu().numpy())
        if not all(np.isfinite(row).all() for row in y):
            raise ValueError("the target's logits are not finite")
        return y

    def _judge(self, item: Round, logits: torch.Tensor) -> Judged:
        y = self.law(item, logits)
        return judge(item.span, y, seed=item.seed, start=len(item.base), round_=item.number, want_bonus=item.want_bonus)


def warm_up(engine: TargetEngine, chunk_tokens: int) -> None:
    """Run passes of the sizes to come: libraries choose and compile per size, and the first request is not to wait for that."""
    ids = [0] * (chunk_tokens + max(SPANS))
    engine.prefill([Chunk(WARM_UP, ids[:chunk_tokens])])
    for tokens in SPANS:
        span = [SpanToken(0, 1.0)] * tokens
        engine.verify([Round(WARM_UP, ids[:chunk_tokens], span, Sampling(), 0, 0, want_bonus=True, deadline=math.inf)])
    engine.forget([WARM_UP])


def load(settings: VerifierSettings, slots: SlotTable) -> tuple[TargetEngine, LoadedModel]:
    """The model that the settings name, warmed up. Raises ``ConfigError`` with one line about what to change."""
    try:
        loaded = loading.load(
            settings.model,
            role="target",
            dtype=settings.dtype,
            device=settings.device,
            weights=settings.weights,
            threads=settings.torch_threads,
        )
    except ModelError as error:
        raise ConfigError(f"SLUICE_VERIFIER_MODEL: {error}") from error
    capacity = settings.capacity_tokens
    if capacity > loaded.context_tokens:
        raise ConfigError(
            f"SLUICE_VERIFIER_CAPACITY_TOKENS is {capacity}, but {settings.model} takes {loaded.context_tokens} tokens"
        )
    # A padded pass may write garbage behind a row's own tokens: as far as the longest row of the pass reaches.
    slack = settings.prefill_chunk_tokens + MAX_SPAN_TOKENS
    causal = CausalEngine(loaded.model, slots=settings.slots, capacity_tokens=capacity + slack)
    engine = TargetEngine(causal, slots, vocabulary=loaded.vocabulary)
    warm_up(engine, settings.prefill_chunk_tokens)
    return engine, loaded
