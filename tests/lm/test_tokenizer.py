"""Tokenizers are the same when they behave the same, wherever their files came from."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer
from transformers import AutoTokenizer

from services.common.lm.tokenizer import end_ids, tokenizer_hash, vocabulary_size
from tests.lm.conftest import TEXT, tiny_tokenizer, wrapped


def test_saving_and_loading_keeps_the_hash(tmp_path: Path) -> None:
    one = tiny_tokenizer()
    one.save_pretrained(tmp_path)
    assert tokenizer_hash(AutoTokenizer.from_pretrained(tmp_path)) == tokenizer_hash(one)


def test_order_of_entries_padding_and_templates_do_not_count() -> None:
    one = tiny_tokenizer()
    raw = json.loads(one.backend_tokenizer.to_str())
    raw["model"]["vocab"] = dict(reversed(raw["model"]["vocab"].items()))
    raw["padding"] = None
    raw["post_processor"] = None
    other = wrapped(Tokenizer.from_str(json.dumps(raw)), padding_side="left")
    other.chat_template = "{{ messages }}"
    assert tokenizer_hash(other) == tokenizer_hash(one)


def test_vocabulary_merges_rules_and_special_tokens_count() -> None:
    one = tiny_tokenizer()
    seen = {
        tokenizer_hash(one),
        tokenizer_hash(tiny_tokenizer(text=[t[::-1] for t in TEXT])),
        tokenizer_hash(tiny_tokenizer(290)),
    }
    swapped = json.loads(one.backend_tokenizer.to_str())
    vocabulary = swapped["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    prefixed = json.loads(one.backend_tokenizer.to_str())
    prefixed["pre_tokenizer"]["add_prefix_space"] = True
    lowered = json.loads(one.backend_tokenizer.to_str())
    lowered["normalizer"] = {"type": "Lowercase"}
    for raw in (swapped, prefixed, lowered):
        seen.add(tokenizer_hash(wrapped(Tokenizer.from_str(json.dumps(raw)))))
    added = tiny_tokenizer()
    added.add_special_tokens({"additional_special_tokens": ["<|new|>"]})
    seen.add(tokenizer_hash(added))
    assert len(seen) == 7


def test_size_counts_added_tokens() -> None:
    tokenizer = tiny_tokenizer()
    size = vocabulary_size(tokenizer)
    tokenizer.add_tokens(["<|new|>"])
    assert vocabulary_size(tokenizer) == size + 1


def test_ends_come_from_configs_tokenizer_and_template() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>", "<|eot_id|>"]})
    vocabulary = tokenizer.get_vocab()
    assert end_ids(tokenizer, None) == {vocabulary["<|end|>"]}
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    assert end_ids(tokenizer, 7, [8, 9], None) == {7, 8, 9, vocabulary["<|end|>"], vocabulary["<|im_end|>"]}
