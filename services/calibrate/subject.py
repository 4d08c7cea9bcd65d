"""The real pair as a subject of calibration. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence

from services.calibrate.pair import PairDrafter, PairJudge, chat_ids
from services.calibrate.run import Subject
from services.common.calibration.files import Model, text_hash
from services.common.lm import loading, presets
from services.common.lm.errors import ModelError
from services.common.lm.loading import LoadedModel


class LoadedPair:
    """Both models in memory. Raises ``ModelError`` with one line where they cannot be loaded or do not fit each other."""

    def __init__(
        self, pair: str, draft: str, target: str, texts: Sequence[str], *, max_tokens: int, entries: int, threads: int
    ) -> None:
        preset = presets.preset(pair)
        references = [presets.MODELS.get(name, name) for name in (draft or preset.draft, target or preset.target)]
        small = loading.load(references[0], role="draft", threads=threads)
        large = loading.load(references[1], role="target", threads=threads)
        loading.check_pair(small, large)
        template = small.tokenizer.chat_template
        if not isinstance(template, str):
            raise ModelError(f"{references[0]} has no chat template: calibrate a model that answers chats")
        ids = [chat_ids(small.tokenizer, text) for text in texts]
        context = max(map(len, ids)) + max_tokens
        room = min(small.context_tokens, large.context_tokens)
        if context > room:
            raise ModelError(f"a prompt and its answer take {context} tokens, the models {room}: shorten prompts or answers")
        self._drafter = PairDrafter(small, context_tokens=context, entries=entries)
        self.subject = Subject(
            self._drafter,
            PairJudge(large, context_tokens=context),
            ids,
            small.end_ids,
            _model(small),
            _model(large),
            small.tokenizer_hash,
            text_hash(template),
        )

    def close(self) -> None:
        self._drafter.close()


def _model(loaded: LoadedModel) -> Model:
    return Model(reference=presets.short(loaded.reference), revision=loaded.revision, weights=loaded.weights)
