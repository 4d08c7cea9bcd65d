"""The draft model of an edge worker, loaded as its settings say. Imports torch: called on a worker thread only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from services.common import synthetic as law
from services.common.lm import loading, presets
from services.common.lm.attention import LastRow
from services.common.lm.engine import CausalEngine
from services.common.lm.errors import ModelError
from services.common.settings import ConfigError
from services.edge_worker import synthetic
from services.edge_worker.calibration import Calibrated
from services.edge_worker.draft import Drafter, ModelDrafter
from services.edge_worker.settings import EdgeSettings
from services.edge_worker.signals import Importance, Signal


class Loaded(Drafter, Protocol):
    """A drafter with something behind it that works, or has stopped."""

    def stalled(self) -> float:
        """Seconds since a step was last done, while there is one to do; else 0."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Ready:
    """A draft model that can write. ``description`` is for the log."""

    drafter: Loaded
    tokenizer: PreTrainedTokenizerBase
    tokenizer_hash: str
    end_ids: frozenset[int]
    target: str
    context_tokens: int
    description: dict[str, object]
    device: str = "cpu"  # torch's name of where it is


def load(settings: EdgeSettings, calibrated: Calibrated | None = None) -> Ready:
    """Load the draft model and warm it up. Raises ``ConfigError`` with one line about what to change."""
    if law.is_synthetic(settings.draft):
        return _synthetic(settings, calibrated)
    try:
        pair = presets.preset(settings.preset)
        reference = settings.draft or pair.draft
        loaded = loading.load(
            reference,
            dtype=settings.dtype,
            device=settings.device,
            weights=_weights(settings, calibrated),
            threads=settings.threads,
            role="draft",
        )
    except ModelError as error:
        raise ConfigError(str(error)) from error
    if calibrated is not None:
        template = loaded.tokenizer.chat_template
        calibrated.check(
            revision=loaded.revision,
            weights=loaded.weights,
            target=settings.target or pair.target,
            tokenizer_hash=loaded.tokenizer_hash,
            template=template if isinstance(template, str) else "",
        )
    context_tokens = min(settings.context_tokens, loaded.context_tokens)
    engine = CausalEngine(loaded.model, slots=settings.sessions, capacity_tokens=context_tokens + settings.prefill_tokens)
    layers = int(loaded.model.config.get_text_config().num_hidden_layers)
    layer = layers // 2 if settings.importance_layer is None else settings.importance_layer
    drafter = ModelDrafter(
        engine,
        vocabulary=loaded.vocabulary,
        signal=settings.signal if calibrated is None else calibrated.signal or settings.signal,
        entries=settings.x_entries,
        prefill_tokens=settings.prefill_tokens,
        layer=layer,
        predictor=None if calibrated is None else calibrated.predictor,
    )
    engine.hidden([0], [0], [[0] * 8])
    try:
        engine.hidden([0], [8], [[0]], None if settings.importance is Importance.NONE else LastRow(layer))
    except ValueError as error:
        raise ConfigError(
            f"SLUICE_EDGE_IMPORTANCE is {settings.importance}, but {error} ({layers} layers): choose another with "
            "SLUICE_EDGE_IMPORTANCE_LAYER, or importance none"
        ) from error
    return Ready(
        drafter,
        loaded.tokenizer,
        loaded.tokenizer_hash,
        loaded.end_ids,
        settings.target or pair.target,
        context_tokens,
        {
            "draft": reference,
            "weights": loaded.weights,
            "revision": loaded.revision,
            "tokenizer": loaded.tokenizer_hash,
            "vocabulary": loaded.vocabulary,
            "importance": f"{settings.importance} of layer {layer}" if settings.importance is not Importance.NONE else "none",
            "threads": settings.threads,
            "sessions": settings.sessions,
            "context_tokens": context_tokens,
        },
        str(loaded.model.device),
    )


def _synthetic(settings: EdgeSettings, calibrated: Calibrated | None) -> Ready:
    if calibrated is not None or settings.signal is not Signal.ONE_MINUS_MAX or settings.importance is not Importance.NONE:
        raise ConfigError(
            "SLUICE_EDGE_DRAFT is synthetic: it knows the signal one_minus_max only, no importance and no calibration"
        )
    target = settings.target or law.REFERENCE
    if not law.is_synthetic(target):
        raise ConfigError(f"SLUICE_EDGE_DRAFT is synthetic, but SLUICE_EDGE_TARGET is {target}: both or neither")
    step_seconds = settings.synthetic_step_ms / 1000
    try:
        drafter = synthetic.drafter(
            settings.draft, slots=settings.sessions, entries=settings.x_entries, step_seconds=step_seconds
        )
    except ModelError as error:
        raise ConfigError(f"SLUICE_EDGE_DRAFT: {error}") from error
    description: dict[str, object] = {"draft": settings.draft, "sessions": settings.sessions, "step_seconds": step_seconds}
    return Ready(drafter, synthetic.tokenizer(), law.TOKENIZER_HASH, frozenset(), target, settings.context_tokens, description)


def _weights(settings: EdgeSettings, calibrated: Calibrated | None) -> str:
    """A calibration holds for the number format it was made with, whichever is the fastest here today."""
    return settings.weights if calibrated is None or settings.weights != "auto" else calibrated.calibration.draft.weights
