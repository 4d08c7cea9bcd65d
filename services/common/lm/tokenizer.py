"""What two models must agree on before one may draft for the other: the meaning of token ids. Pure functions."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from transformers import PreTrainedTokenizerBase

# Ways of ending a turn that chat templates use; one counts only where the model's own template writes it.
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "</s>")


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """16 hex digits over a tokenizer's behaviour: vocabulary, merges, normaliser, pre-tokeniser, decoder, added tokens.

    The order of entries in a file, padding, truncation, templates and flags of added tokens that only steer how text
    next to them is split do not count: they never change what an id means.
    """
    return hashlib.sha256(json.dumps(_behaviour(tokenizer), sort_keys=True).encode()).hexdigest()[:16]


def vocabulary_size(tokenizer: PreTrainedTokenizerBase) -> int:
    """One more than the largest id that stands for something."""
    return max(tokenizer.get_vocab().values()) + 1


def end_ids(tokenizer: PreTrainedTokenizerBase, *declared: int | list[int] | None) -> frozenset[int]:
    """Ids that end an answer: ``declared`` ones (of configs), the tokenizer's own, and the chat template's end of turn."""
    found: set[int] = set()
    for ids in (*declared, tokenizer.eos_token_id):
        found.update([ids] if isinstance(ids, int) else ids or [])
    template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
    vocabulary = tokenizer.get_vocab()
    found.update(vocabulary[end] for end in _TURN_ENDS if end in template and end in vocabulary)
    return frozenset(found)


def _behaviour(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The part of a tokenizer that decides how text and ids map to each other."""
    vocabulary = tokenizer.get_vocab()
    added = sorted((i, token.content, token.special) for i, token in tokenizer.added_tokens_decoder.items())
    behaviour: dict[str, Any] = {"vocabulary": vocabulary, "added": added}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        # Pure Python tokenizers show no rules; their class stands for them.
        return {**behaviour, "kind": type(tokenizer).__name__}
    raw = json.loads(backend.to_str())
    model = raw["model"]
    model.pop("vocab", None)
    return {**behaviour, "model": model, **{part: raw.get(part) for part in ("normalizer", "pre_tokenizer", "decoder")}}
