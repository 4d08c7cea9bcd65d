"""The target model of a verifier, loaded as its settings say. Imports torch: called on the engine thread only."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.lm import loading
from services.common.lm.engine import CausalEngine
from services.common.settings import ConfigError
from services.verifier.context import Target
from services.verifier.engine import TargetEngine
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
    loaded = _interim(settings)
    capacity = settings.capacity_tokens
    if capacity > loaded.context_tokens:
        raise ConfigError(
            f"SLUICE_VERIFIER_CAPACITY_TOKENS is {capacity}, but {settings.model} takes {loaded.context_tokens} tokens"
        )
    # A padded pass may write garbage behind a row's own tokens: as far as the longest row of the pass reaches.
    slack = settings.prefill_chunk_tokens + settings.max_span_tokens
    causal = CausalEngine(loaded.model, slots=settings.slots, capacity_tokens=capacity + slack)
    engine = TargetEngine(causal, slots, vocabulary=loaded.vocabulary)
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


def _interim(settings):
    import torch, types
    torch.set_num_threads(settings.torch_threads)
    model, tok = loading.load_gguf(loading.smollm2_gguf(), torch.float32)
    return types.SimpleNamespace(model=model, tokenizer=tok, tokenizer_hash="interim", vocabulary=len(tok), context_tokens=8192, end_ids=(2,), revision="", weights="dense")
