"""Token ids to text, one token at a time: no character is ever shown broken, and the pieces add up to the whole.

A byte-level tokenizer (SmolLM2, Qwen, Llama 3) is decoded exactly, byte by byte. Any other (Llama 2's byte fallback) goes
through the tokenizer's own decoder over a short window of ids, since its text may depend on the token before.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from typing import Any, Protocol

CONTEXT_IDS = 5  # ids before a token that the window decoder sees: they decide about a leading space
BYTE_FALLBACK = re.compile("<0x[0-9A-F]{2}>")


class Decoder(Protocol):
    """Turns the ids of one answer into text."""

    def step(self, token: int) -> str:
        """The text that ``token`` completes; empty while a character is still open."""
        ...


def byte_alphabet() -> dict[str, int]:
    """The printable characters that byte-level tokenizers write for the 256 bytes (GPT-2's table), to their bytes."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + n): byte for n, byte in enumerate(others)}


class TokenTable:
    """The vocabulary of a fast tokenizer as text and bytes. Built once; makes decoders."""

    def __init__(self, tokenizer: Any, end_ids: Sequence[int] = ()) -> None:
        self._backend = tokenizer.backend_tokenizer
        size = len(tokenizer)
        self.size = size
        self._names: list[str | None] = [self._backend.id_to_token(token) for token in range(size)]
        added = self._backend.get_added_tokens_decoder()
        self.hidden = frozenset(end_ids) | {token for token, entry in added.items() if entry.special}
        self.byte_level = "ByteLevel" in repr(self._backend.decoder)
        self._alphabet = byte_alphabet()

    def name(self, token: int) -> str | None:
        """The tokenizer's own spelling of ``token``; None outside the vocabulary."""
        return self._names[token] if 0 <= token < self.size else None

    def raw(self, token: int) -> bytes:
        """The bytes ``token`` stands for, seen alone; empty for an unknown one."""
        name = self.name(token)
        if name is None:
            return b""
        if self.is_byte(token):
            return bytes([int(name[3:5], 16)])
        if not self.byte_level:
            return name.replace("\u2581", " ").encode()
        try:
            return bytes([self._alphabet[char] for char in name])
        except KeyError:
            return name.encode()  # an added token is spelled as itself

    def is_byte(self, token: int) -> bool:
        """Whether ``token`` is one byte in the ``<0xE2>`` form of byte fallback."""
        name = self.name(token)
        return not self.byte_level and name is not None and BYTE_FALLBACK.fullmatch(name) is not None

    def alone(self, token: int) -> str:
        """``token`` for people and for log probabilities: its text, or OpenAI's ``bytes:\\xe2`` form of a broken one."""
        data = self.raw(token)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)

    def text(self, ids: Sequence[int]) -> str:
        """The tokenizer's own decoding of ``ids`` without special tokens."""
        shown = [token for token in ids if token not in self.hidden]
        decoded: str = self._backend.decode(shown, skip_special_tokens=True)
        return decoded

    def decoder(self, prompt_ids: Sequence[int] = ()) -> Decoder:
        """A decoder for an answer to ``prompt_ids``."""
        return ByteDecoder(self) if self.byte_level else WindowDecoder(self, prompt_ids)


class ByteDecoder:
    """Exact for byte-level tokenizers: constant work per token."""

    def __init__(self, table: TokenTable) -> None:
        self._table = table
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def step(self, token: int) -> str:
        if token in self._table.hidden:
            return ""
        return self._utf8.decode(self._table.raw(token))


class WindowDecoder:
    """For any other tokenizer: byte tokens go through UTF-8, the rest is what its own decoder adds after the tokens before.

    Only the window of ``CONTEXT_IDS`` ids is decoded each time, so the work per token is constant too.
    """

    def __init__(self, table: TokenTable, prompt_ids: Sequence[int]) -> None:
        self._table = table
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._window: list[int] = []
        for token in prompt_ids[-4 * CONTEXT_IDS :]:
            if token not in table.hidden and not table.is_byte(token):
                self._remember(token)

    def step(self, token: int) -> str:
        if token in self._table.hidden:
            return ""
        if self._table.is_byte(token):
            return self._utf8.decode(self._table.raw(token))
        broken = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        before = self._table.text(self._window)
        after = self._table.text([*self._window, token])
        self._remember(token)
        return broken + after[len(before) :]

    def _remember(self, token: int) -> None:
        self._window = [*self._window[1 - CONTEXT_IDS :], token]
