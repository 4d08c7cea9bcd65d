"""Prompts to token ids, off the event loop and only within bounds."""

from __future__ import annotations

import asyncio
import copy
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jinja2 import TemplateError

from services.edge_worker.http.bounds import Bounds
from services.edge_worker.http.errors import ApiError, invalid

Turn = dict[str, str]  # role, content


def too_long(context_tokens: int, what: str, param: str) -> ApiError:
    message = f"This model's maximum context length is {context_tokens} tokens. {what}"
    return invalid(param, message, "context_length_exceeded")


class PromptEncoder:
    """Owns ``tokenizer``, a second form of it without markup, and one thread for both. ``close`` ends the thread."""

    def __init__(self, tokenizer: Any, *, context_tokens: int, bounds: Bounds) -> None:
        self._tokenizer = tokenizer
        self._markup = self._tokenizer.backend_tokenizer
        self._markup.no_truncation()
        self._markup.no_padding()
        self._plain = copy.deepcopy(self._markup)
        self._plain.encode_special_tokens = True
        added = self._markup.get_added_tokens_decoder().values()
        special = sorted((entry.content for entry in added if entry.special), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, special))) if special else None
        self._size = len(tokenizer)
        self._context_tokens = context_tokens
        self._bounds = bounds
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenizer")

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def chat(self, turns: list[Turn]) -> list[int]:
        """The ids of a conversation in the model's chat template, with the assistant's turn opened."""
        self._check_characters(sum(len(turn["content"]) for turn in turns), "messages")
        ids = await asyncio.get_running_loop().run_in_executor(self._thread, self._chat, turns)
        return self._check(ids, "messages")

    async def plain(self, prompt: str | list[int]) -> list[int]:
        """The ids of a raw prompt: text, in which special tokens count as such, or ids as they are."""
        if isinstance(prompt, list):
            ids = prompt
            bad = next((n for n, token in enumerate(ids) if not 0 <= token < self._size), None)
            if bad is not None:
                raise invalid("prompt", f"prompt[{bad}] is no token id of this model: ids go from 0 to {self._size - 1}")
        else:
            self._check_characters(len(prompt), "prompt")
            ids = await asyncio.get_running_loop().run_in_executor(self._thread, self._encode, self._markup, prompt, True)
        return self._check(ids, "prompt")

    def _chat(self, turns: list[Turn]) -> list[int]:
        # A special token typed by a user is text, not markup: it is masked while the template is rendered.
        mask = secrets.token_hex(8)
        typed: list[str] = []

        def hide(match: re.Match[str]) -> str:
            typed.append(match.group())
            return f"\ue000{mask}\ue001"

        if self._special is not None:
            turns = [{**turn, "content": self._special.sub(hide, turn["content"])} for turn in turns]
        if not getattr(self._tokenizer, "chat_template", None):
            raise invalid("messages", "this model has no chat template; use /v1/completions", "unsupported_endpoint")
        try:
            text = self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise invalid("messages", f"the model's chat template refuses these messages: {str(error)[:200]}") from error
        ids: list[int] = []
        parts = str(text).split(f"\ue000{mask}\ue001")
        for number, part in enumerate(parts):
            ids += self._encode(self._markup, part, False)
            if number + 1 < len(parts):
                ids += self._encode(self._plain, typed[number], False)
        return ids

    @staticmethod
    def _encode(backend: Any, text: str, add_special_tokens: bool) -> list[int]:
        # the batch call lets go of the interpreter lock; the single one was seen to hold it for 35 ms
        encoded: list[int] = backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids
        return encoded

    def _check_characters(self, characters: int, param: str) -> None:
        if characters > self._bounds.prompt_characters:
            limit = self._bounds.prompt_characters
            raise too_long(self._context_tokens, f"Your prompt has {characters} characters; at most {limit} are read.", param)

    def _check(self, ids: list[int], param: str) -> list[int]:
        if not ids:
            raise invalid(param, f"{param} must not be empty: it holds no token")
        if len(ids) >= self._context_tokens:
            raise too_long(self._context_tokens, f"Your prompt has {len(ids)} tokens; at least one more is needed.", param)
        return ids
