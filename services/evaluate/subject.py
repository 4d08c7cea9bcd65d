"""What is evaluated: a pair of loaded models, or the synthetic pair, which needs no files. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.calibrate.pair import chat_ids
from services.common import synthetic
from services.common.calibration.files import Calibration, CalibrationError, Model, text_hash
from services.common.calibration.predictor import Predictor
from services.common.lm import loading, presets
from services.common.lm.engine import CausalEngine
from services.common.lm.errors import ModelError
from services.common.lm.loading import LoadedModel
from services.common.rng import Floats
from services.common.synthetic import SyntheticLaw
from services.edge_worker.draft import Drafter, ModelDrafter
from services.edge_worker.fakes import TableDrafter
from services.edge_worker.signals import Signal
from services.evaluate.judge import Judge
from services.verifier.engine import TargetEngine
from services.verifier.slots import SlotTable
from services.verifier.synthetic import SyntheticEngine

PREFILL_TOKENS = 256


class Subject:
    """See ``write.Subject``. Raises ``ModelError`` with one line where models cannot be loaded or do not fit each other."""

    judge: Judge
    prompts: Sequence[Sequence[int]]
    end_ids: frozenset[int]
    draft: Model
    target: Model
    tokenizer_hash: str
    template_hash: str

    def drafter(self, signal: Signal, predictor: Predictor | None) -> Drafter:
        raise NotImplementedError

    def text(self, ids: Sequence[int]) -> str:
        raise NotImplementedError

    def close(self) -> None:
        """Threads end."""


class LoadedPair(Subject):
    """Both models in memory. ``entries``: of the draft distribution; ``layer``: importance is read from it, the middle one."""

    def __init__(
        self, draft: str, target: str, texts: Sequence[str], *, max_tokens: int, entries: int, threads: int, layer: int | None
    ) -> None:
        names = [presets.MODELS.get(name, name) for name in (draft, target)]
        self._small = loading.load(names[0], role="draft", threads=threads)
        large = loading.load(names[1], role="target", threads=threads)
        loading.check_pair(self._small, large)
        template = self._small.tokenizer.chat_template
        if not isinstance(template, str):
            raise ModelError(f"{names[0]} has no chat template: evaluate a model that answers chats")
        self.prompts = [chat_ids(self._small.tokenizer, text) for text in texts]
        context = max(map(len, self.prompts)) + max_tokens
        room = min(self._small.context_tokens, large.context_tokens)
        if context > room:
            raise ModelError(f"a prompt and its answer take {context} tokens, the models {room}: shorten prompts or answers")
        self._engine = CausalEngine(self._small.model, slots=1, capacity_tokens=context + PREFILL_TOKENS)
        layers = int(self._small.model.config.get_text_config().num_hidden_layers)
        self._layer = layers // 2 if layer is None else layer
        if self._layer >= layers:
            raise ModelError(f"the draft model has {layers} layers: choose --importance-layer below that")
        self._entries = entries
        self._drafters: dict[tuple[Signal, bool], ModelDrafter] = {}
        causal = CausalEngine(large.model, slots=1, capacity_tokens=2 * context)
        self.judge = Judge(TargetEngine(causal, SlotTable(1), vocabulary=large.vocabulary))
        self.end_ids = self._small.end_ids
        self.draft, self.target = _model(self._small), _model(large)
        self.tokenizer_hash, self.template_hash = self._small.tokenizer_hash, text_hash(template)

    def drafter(self, signal: Signal, predictor: Predictor | None) -> Drafter:
        """One after the other they use the same cache: each answer feeds its own prompt."""
        key = (signal, predictor is not None)
        if key not in self._drafters:
            self._drafters[key] = ModelDrafter(
                self._engine,
                vocabulary=self._small.vocabulary,
                signal=signal,
                entries=self._entries,
                prefill_tokens=PREFILL_TOKENS,
                layer=self._layer,
                predictor=predictor,
            )
        return self._drafters[key]

    def text(self, ids: Sequence[int]) -> str:
        return str(self._small.tokenizer.decode(list(ids), skip_special_tokens=True))

    def close(self) -> None:
        for drafter in self._drafters.values():
            drafter.close()


class SyntheticPair(Subject):
    """The synthetic models; bytes are tokens. Their only signal is ``one_minus_max``."""

    def __init__(self, draft: str, target: str, texts: Sequence[str], *, entries: int) -> None:
        try:
            seeds = [synthetic.seed_of(name) for name in (draft, target)]
        except ValueError as error:
            raise ModelError(str(error)) from error
        self._law = SyntheticLaw(seeds[0], synthetic.DRAFT_NOISE)
        self._entries = entries
        self.judge = Judge(SyntheticEngine(SyntheticLaw(seeds[1]), SlotTable(1)))
        self.prompts = [list(text.encode()) for text in texts]
        self.end_ids = frozenset()
        self.draft, self.target = (Model(reference=name, revision=name, weights="hash") for name in (draft, target))
        self.tokenizer_hash, self.template_hash = synthetic.TOKENIZER_HASH, text_hash("")

    def drafter(self, signal: Signal, predictor: Predictor | None) -> Drafter:
        if predictor is not None or signal is not Signal.ONE_MINUS_MAX:
            raise ModelError("synthetic models know one signal: --signal one_minus_max, and no calibrated predictor")
        return TableDrafter(self._law, slots=1, entries=self._entries, attention=self._attention)

    def text(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode("latin-1")

    def _attention(self, prefix: Sequence[int]) -> Floats:
        weights: Floats = self._law(prefix)[np.arange(len(prefix)) % synthetic.VOCABULARY]
        weights /= weights.sum()
        return weights


def load(
    draft: str, target: str, texts: Sequence[str], *, max_tokens: int, entries: int, threads: int, layer: int | None
) -> Subject:
    """The pair that the references name."""
    kinds = [synthetic.is_synthetic(name) for name in (draft, target)]
    if all(kinds):
        return SyntheticPair(draft, target, texts, entries=entries)
    if any(kinds):
        raise ModelError("a synthetic model answers to none but its like: make --draft and --target both synthetic")
    return LoadedPair(draft, target, texts, max_tokens=max_tokens, entries=entries, threads=threads, layer=layer)


def _model(loaded: LoadedModel) -> Model:
    return Model(reference=presets.short(loaded.reference), revision=loaded.revision, weights=loaded.weights)


def check(subject: Subject, calibration: Calibration) -> None:
    """Raises ``CalibrationError`` where the calibration is for other models."""
    pairs = (
        ("draft", subject.draft.revision, calibration.draft.revision),
        ("number format of the draft", subject.draft.weights, calibration.draft.weights),
        ("target", subject.target.revision, calibration.target.revision),
        ("tokenizer", subject.tokenizer_hash, calibration.tokenizer_hash),
        ("chat template", subject.template_hash, calibration.template_hash),
    )
    for what, here, there in pairs:
        if here != there:
            raise CalibrationError(
                f"the calibration is for another {what} ({there}) than this one ({here}): calibrate this pair"
            )
