"""The JSON objects of both endpoints: what surrounds the text of an answer."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any, Protocol

from services.edge_worker.http.detokenise import TokenTable
from services.edge_worker.http.logprobs import chat_logprobs, completion_logprobs
from services.edge_worker.http.text import Piece

Json = dict[str, Any]


def usage(prompt: int, completion: int) -> Json:
    """Counts of tokens; the end token of an answer counts."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def text_of(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


class Shape(Protocol):
    """How one endpoint writes an answer. The caller adds ``sluice`` and ``usage``."""

    def opening(self) -> Json | None: ...

    def chunk(self, pieces: Sequence[Piece]) -> Json: ...

    def closing(self, reason: str) -> Json: ...

    def usage_chunk(self) -> Json: ...

    def whole(self, pieces: Sequence[Piece], reason: str) -> Json: ...


class ChatShape:
    """/v1/chat/completions."""

    def __init__(self, model: str, table: TokenTable, top_logprobs: int | None) -> None:
        self._head: Json = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
        self._table = table
        self._logprobs = top_logprobs is not None

    def opening(self) -> Json | None:
        return self._chunk([self._choice({"role": "assistant", "content": "", "refusal": None}, None, None)])

    def chunk(self, pieces: Sequence[Piece]) -> Json:
        return self._chunk([self._choice({"content": text_of(pieces)}, self._log(pieces), None)])

    def closing(self, reason: str) -> Json:
        return self._chunk([self._choice({}, None, reason)])

    def usage_chunk(self) -> Json:
        return self._chunk([])

    def whole(self, pieces: Sequence[Piece], reason: str) -> Json:
        message: Json = {"role": "assistant", "content": text_of(pieces), "refusal": None, "annotations": []}
        choice = {"index": 0, "message": message, "logprobs": self._log(pieces), "finish_reason": reason}
        return self._head | {"object": "chat.completion", "system_fingerprint": None, "choices": [choice]}

    def _log(self, pieces: Sequence[Piece]) -> Json | None:
        return chat_logprobs(pieces, self._table) if self._logprobs else None

    def _chunk(self, choices: list[Json]) -> Json:
        return self._head | {"object": "chat.completion.chunk", "system_fingerprint": None, "choices": choices}

    @staticmethod
    def _choice(delta: Json, logprobs: Json | None, reason: str | None) -> Json:
        return {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}


class CompletionShape:
    """/v1/completions."""

    def __init__(self, model: str, table: TokenTable, top_logprobs: int | None) -> None:
        self._head: Json = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": None,
        }
        self._table = table
        self._top = top_logprobs

    def opening(self) -> Json | None:
        return None

    def chunk(self, pieces: Sequence[Piece]) -> Json:
        return self._body(text_of(pieces), self._log(pieces), None)

    def closing(self, reason: str) -> Json:
        return self._body("", None, reason)

    def usage_chunk(self) -> Json:
        return self._head | {"choices": []}

    def whole(self, pieces: Sequence[Piece], reason: str) -> Json:
        return self._body(text_of(pieces), self._log(pieces), reason)

    def _log(self, pieces: Sequence[Piece]) -> Json | None:
        return None if self._top is None else completion_logprobs(pieces, self._table, self._top)

    def _body(self, text: str, logprobs: Json | None, reason: str | None) -> Json:
        return self._head | {"choices": [{"index": 0, "text": text, "logprobs": logprobs, "finish_reason": reason}]}
