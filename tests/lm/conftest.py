"""A real small model (SmolLM2-135M from its package) and random tiny ones that cost milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from services.common.lm.loading import load_gguf, smollm2_gguf

TEXT = ["the cat sat on the mat", "a draft is judged by its target", "numbers 0123456789", "Hello, world!"] * 4


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def smollm2() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """SmolLM2-135M-Instruct in float32."""
    return load_gguf(smollm2_gguf(), torch.float32)


def tiny_tokenizer(entries: int = 300, text: list[str] = TEXT) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on a few lines."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        text,
        trainers.BpeTrainer(vocab_size=entries, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False),
    )
    return wrapped(raw)


def wrapped(raw: Tokenizer, **options: Any) -> PreTrainedTokenizerFast:
    """A tokenizer of transformers around one of tokenizers."""
    make: Any = PreTrainedTokenizerFast
    return cast(PreTrainedTokenizerFast, make(tokenizer_object=raw, eos_token="<|end|>", **options))


def tiny_model(
    seed: int = 0, layers: int = 2, vocabulary: int = 320, bias: bool = False, tied: bool = True
) -> LlamaForCausalLM:
    """A random Llama whose layers fit every weight format; its vocabulary is padded beyond ``tiny_tokenizer``'s."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        attention_bias=bias,
        tie_word_embeddings=tied,
        initializer_range=0.1,
        eos_token_id=0,
    )
    model = LlamaForCausalLM(config)
    model.train(False)
    if bias:
        with torch.no_grad():
            for layer in model.model.layers:
                layer.self_attn.q_proj.bias.normal_()
    return model


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Path:
    """A local Hugging Face folder."""
    folder = tmp_path / "tiny"
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
