"""The target model of a verifier, loaded as its settings say. Imports torch: called on the engine thread only."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.lm import loading
from services.common.lm.engine import CausalEngine
from services.common.lm.errors import ModelError
from services.common.settings import ConfigError
from services.verifier.context import Target
from services.verifier.engine import TargetEngine
from services.verifier.scheduler import Chunk
from services.verifier.settings import VerifierSettings
from services.verifier.slots import SlotTable


@dataclass(frozen=True)
class Ready:
    """A model that can judge. ``description`` is for the log."""

    engine: TargetEngine
    target: Target
    description: dict[str, object]


def load(settings: VerifierSettings, slots: SlotTable) -> Ready:
    """Load the target and warm it up. Raises ``ConfigError`` with one line about what to change."""
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
    slack = settings.prefill_chunk_tokens + settings.max_span_tokens
    causal = CausalEngine(loaded.model, slots=settings.slots, capacity_tokens=capacity + slack)
    engine = TargetEngine(causal, slots, vocabulary=loaded.vocabulary)
    engine.prefill([Chunk(b"warm-up", [0])])
    engine.forget([b"warm-up"])
    target = Target(loaded.tokenizer_hash, loaded.vocabulary, capacity, settings.max_span_tokens)
    description: dict[str, object] = {
        "model": settings.model,
        "revision": loaded.revision,
        "weights": loaded.weights,
        "tokenizer": loaded.tokenizer_hash,
        "vocabulary": loaded.vocabulary,
        "threads": settings.torch_threads,
        "slots": settings.slots,
        "capacity_tokens": capacity,
    }
    return Ready(engine, target, description)
