"""The target model of a verifier, as its settings say: a real one, or the synthetic one, which needs no torch.

Called on the engine thread only: a real model imports torch there.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.common import synthetic
from services.common.settings import ConfigError
from services.common.synthetic import SyntheticLaw
from services.verifier.context import Target
from services.verifier.feed import Engine
from services.verifier.settings import VerifierSettings
from services.verifier.slots import SlotTable
from services.verifier.synthetic import SyntheticEngine


@dataclass(frozen=True)
class Ready:
    """A model that can judge. ``description`` is for the log."""

    engine: Engine
    target: Target
    description: dict[str, object]
    device: str = "cpu"  # torch's name of where it is
    cache_bytes: int = 0


def load(settings: VerifierSettings, slots: SlotTable) -> Ready:
    """Load the target and warm it up. Raises ``ConfigError`` with one line about what to change."""
    if synthetic.is_synthetic(settings.model):
        return _synthetic(settings, slots)
    from services.verifier import engine

    causal, loaded = engine.load(settings, slots)
    target = Target(loaded.tokenizer_hash, loaded.vocabulary, settings.capacity_tokens)
    description: dict[str, object] = {
        "model": settings.model,
        "revision": loaded.revision,
        "weights": loaded.weights,
        "tokenizer": loaded.tokenizer_hash,
        "vocabulary": loaded.vocabulary,
        "threads": settings.torch_threads,
        "slots": settings.slots,
        "capacity_tokens": settings.capacity_tokens,
    }
    description["cache_bytes"] = causal.cache_bytes
    return Ready(causal, target, description, str(loaded.model.device), causal.cache_bytes)


def _synthetic(settings: VerifierSettings, slots: SlotTable) -> Ready:
    try:
        law = SyntheticLaw(synthetic.seed_of(settings.model))
    except ValueError as error:
        raise ConfigError(f"SLUICE_VERIFIER_MODEL: {error}") from error
    try:
        engine = SyntheticEngine(
            law,
            slots,
            pass_seconds=settings.synthetic_pass_ms / 1000,
            token_seconds=settings.synthetic_token_ms / 1000,
            trace=settings.synthetic_trace,
        )
    except OSError as error:
        raise ConfigError(f"SLUICE_VERIFIER_SYNTHETIC_TRACE: {error.strerror}: {settings.synthetic_trace}") from error
    target = Target(synthetic.TOKENIZER_HASH, synthetic.VOCABULARY, settings.capacity_tokens)
    return Ready(engine, target, {"model": settings.model, "slots": settings.slots})
