"""Ids to text, token by token: the same as the tokenizer's own decoding, with no character broken."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from services.edge_worker.http.detokenise import TokenTable
from tests.http.conftest import END

PARTIAL = "\ufffd"
# SmolLM2 has no token for the first byte of planes 4 and up; what its tokenizer itself loses cannot come back
KNOWN_TEXT = st.text(st.characters(max_codepoint=0x3FFFF, exclude_categories=["Cs"]), max_size=60)


@pytest.fixture(scope="module")
def table(tokenizer: Any) -> TokenTable:
    return TokenTable(tokenizer, (END,))


@pytest.fixture(scope="module")
def llama() -> Any:
    """A tokenizer of Llama 2's kind: metaspace, byte fallback, the first space stripped."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    for piece in ["\u2581", *"abcdefghijklmnopqrstuvwxyz.,!ABC", "\u2581a", "\u2581b", "ab"]:
        vocabulary.setdefault(piece, len(vocabulary))
    merges = [("\u2581", "a"), ("\u2581", "b"), ("a", "b")]
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    fast: Any = PreTrainedTokenizerFast
    return fast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def stream(table: TokenTable, ids: list[int], prompt: list[int] | None = None) -> str:
    decoder = table.decoder(prompt or [])
    return "".join(decoder.step(token) for token in ids)


@settings(deadline=None, max_examples=200)
@given(text=KNOWN_TEXT)
def test_any_text_comes_back(tokenizer: Any, table: TokenTable, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    assume(tokenizer.decode(ids) == text)
    assert stream(table, ids) == text


@settings(deadline=None, max_examples=200)
@given(ids=st.lists(st.integers(0, 49151), max_size=30))
def test_any_ids_decode_as_the_tokenizer_does(tokenizer: Any, table: TokenTable, ids: list[int]) -> None:
    whole = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    ours = stream(table, ids)
    assert whole.startswith(ours)
    assert whole[len(ours) :] in ("", PARTIAL), "only an unfinished last character may be missing"


def test_no_character_is_shown_broken(tokenizer: Any, table: TokenTable) -> None:
    ids = tokenizer.encode("👍🏽é世", add_special_tokens=False)
    assert len(ids) > 4
    decoder = table.decoder()
    pieces = [decoder.step(token) for token in ids]
    assert "" in pieces
    assert PARTIAL not in "".join(pieces)


def test_special_and_unknown_tokens_are_not_shown(table: TokenTable) -> None:
    assert stream(table, [0, 1, 2, 28120, 10**6, -1]) == "hello"


def test_a_token_alone(tokenizer: Any, table: TokenTable) -> None:
    first = tokenizer.encode("👍", add_special_tokens=False)[0]
    assert table.alone(28120) == "hello"
    assert table.alone(first).startswith("bytes:\\xf0")
    assert b"".join(table.raw(token) for token in tokenizer.encode("👍", add_special_tokens=False)) == "👍".encode()


@settings(deadline=None, max_examples=200)
@given(text=st.text(alphabet=st.one_of(st.sampled_from("ab c. "), st.characters(exclude_categories=["Cs"])), max_size=40))
def test_byte_fallback_text_comes_back(llama: Any, text: str) -> None:
    # U+2581 is the space itself in such a vocabulary
    text = text.replace("\u2581", " ")
    table = TokenTable(llama, (2,))
    assert not table.byte_level
    prompt = llama.encode("a b", add_special_tokens=False)
    ids = llama.encode(text, add_special_tokens=False)
    assert stream(table, ids, prompt) == (f" {text}" if text else "")


def test_the_space_after_the_prompt_is_kept(llama: Any) -> None:
    table = TokenTable(llama, (2,))
    prompt = llama.encode("ab", add_special_tokens=False)
    answer = llama.convert_tokens_to_ids(["\u2581a", "b", "\u2581b"])
    assert stream(table, answer, prompt) == " ab b"


def test_broken_bytes_do_not_swallow_what_follows(llama: Any) -> None:
    table = TokenTable(llama, (2,))
    a, lone, emoji = llama.convert_tokens_to_ids("a"), 3 + 0xE4, [3 + byte for byte in "👍".encode()]
    assert stream(table, [a, lone, a, *emoji, *emoji, a]) == f"a{PARTIAL}a👍👍a"
