"""A draft model and its target, loaded, with as many rows as answers are written at once. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from services.common import synthetic
from services.common.calibration.files import Calibration, CalibrationError, Model, text_hash
from services.common.calibration.predictor import Predictor
from services.common.lm import loading, presets
from services.common.lm.engine import CausalEngine
from services.common.lm.errors import ModelError
from services.common.lm.loading import LoadedModel
from services.edge_worker.draft import DraftEngine, Drafter, scorer
from services.edge_worker.signals import Signal
from services.pair.drafter import DRAFT, RowDrafter, keeping_all, run
from services.pair.gather import Gather
from services.pair.judge import Judge
from services.pair.recall import Recall
from services.pair.rows import Pair, Row
from services.pair.synthetic import SyntheticPair
from services.pair.target import PREFILL, VERIFY, Places, Requests, RowPasses, TellingEngine

PREFILL_TOKENS = 256


@dataclass(frozen=True)
class Loading:
    """``entries``: of the draft distribution; ``layer``: importance is read from it, ``None``: the middle one; ``parallel``:
    rows. ``auto`` weights are chosen by measuring, so a record that shall be gone on with names its own."""

    max_tokens: int
    entries: int
    threads: int
    layer: int | None = None
    parallel: int = 1
    draft_weights: str = "auto"
    target_weights: str = "auto"


class LoadedRow:
    """``rows.Row`` of a ``LoadedPair``."""

    def __init__(self, gather: Gather, draft: DraftEngine, target: TellingEngine, places: Places, number: int) -> None:
        self._gather, self._draft, self._number = gather, draft, number
        self.judge = Judge(RowPasses(gather, target, places, number))

    def drafter(self, signal: Signal, predictor: Predictor | None = None, *, every: bool = False) -> Drafter:
        score = keeping_all if every else scorer(signal, predictor)
        return RowDrafter(self._gather, self._draft, self._number, score)

    def writing(self) -> AbstractContextManager[None]:
        return self._gather.writing(self._number)


class LoadedPair:
    """Both models in memory. Raises ``ModelError`` with one line where they cannot be loaded or do not fit each other.

    Only several rows remember what they were fed (``Recall``): the times of a single one are those of a pair that knows no
    other answers.
    """

    def __init__(self, draft: str, target: str, texts: Sequence[str], how: Loading) -> None:
        names = [presets.MODELS.get(name, name) for name in (draft, target)]
        small = loading.load(names[0], role="draft", threads=how.threads, weights=how.draft_weights)
        large = loading.load(names[1], role="target", threads=how.threads, weights=how.target_weights)
        loading.check_pair(small, large)
        template = small.tokenizer.chat_template
        if not isinstance(template, str):
            raise ModelError(f"{names[0]} has no chat template: name a model that answers chats")
        self._tokenizer = small.tokenizer
        self.prompts: Sequence[Sequence[int]] = [chat_ids(small.tokenizer, text) for text in texts]
        context = max(map(len, self.prompts)) + how.max_tokens
        room = min(small.context_tokens, large.context_tokens)
        if context > room:
            raise ModelError(f"a prompt and its answer take {context} tokens, the models {room}: shorten prompts or answers")
        kind = CausalEngine if how.parallel == 1 else Recall
        layers = int(small.model.config.get_text_config().num_hidden_layers)
        if how.layer is not None and how.layer >= layers:
            raise ModelError(f"the draft model has {layers} layers: choose --importance-layer below that")
        drafting = DraftEngine(
            kind(small.model, slots=how.parallel, capacity_tokens=context + PREFILL_TOKENS),
            vocabulary=small.vocabulary,
            entries=how.entries,
            prefill_tokens=PREFILL_TOKENS,
            layer=layers // 2 if how.layer is None else how.layer,
        )
        places = Places()
        judging = TellingEngine(
            kind(large.model, slots=how.parallel, capacity_tokens=2 * context), places, vocabulary=large.vocabulary
        )
        requests = Requests(judging, places)
        self._gather = Gather(
            {
                DRAFT: lambda asked: run(drafting, asked),
                PREFILL: requests.prefill,
                VERIFY: requests.verify,
            }
        )
        self.rows: Sequence[Row[Judge]] = [LoadedRow(self._gather, drafting, judging, places, n) for n in range(how.parallel)]
        self.end_ids = small.end_ids
        self.draft, self.target = _model(small), _model(large)
        self.tokenizer_hash, self.template_hash = small.tokenizer_hash, text_hash(template)

    def text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def close(self) -> None:
        self._gather.close()


def load(draft: str, target: str, texts: Sequence[str], how: Loading) -> Pair[Judge]:
    """The pair that the references name: two models, or the synthetic ones."""
    kinds = [synthetic.is_synthetic(name) for name in (draft, target)]
    if all(kinds):
        return SyntheticPair(draft, target, texts, entries=how.entries, parallel=how.parallel)
    if any(kinds):
        raise ModelError("a synthetic model answers to none but its like: make --draft and --target both synthetic")
    return LoadedPair(draft, target, texts, how)


def check(pair: Pair[Any], calibration: Calibration) -> None:
    """Raises ``CalibrationError`` where the calibration is for other models."""
    facts = (
        ("draft", pair.draft.revision, calibration.draft.revision),
        ("number format of the draft", pair.draft.weights, calibration.draft.weights),
        ("target", pair.target.revision, calibration.target.revision),
        ("tokenizer", pair.tokenizer_hash, calibration.tokenizer_hash),
        ("chat template", pair.template_hash, calibration.template_hash),
    )
    for what, here, there in facts:
        if here != there:
            raise CalibrationError(
                f"the calibration is for another {what} ({there}) than this one ({here}): calibrate this pair"
            )


def chat_ids(tokenizer: Any, prompt: str) -> list[int]:
    """The ids of one user turn in the model's chat template, with the assistant's turn opened."""
    turn = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _model(loaded: LoadedModel) -> Model:
    return Model(reference=presets.short(loaded.reference), revision=loaded.revision, weights=loaded.weights)
