"""Log probabilities in both shapes of the API. They are the draft model's; a token it did not see has none.

The chat shape leaves such a token out (its client expects a number), the older shape says null.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from services.edge_worker.http.detokenise import TokenTable
from services.edge_worker.http.text import Piece

LEAST = -9999.0  # OpenAI's number for a probability of zero: JSON has no infinity


def chat_logprobs(pieces: Iterable[Piece], table: TokenTable) -> dict[str, Any]:
    seen = [(piece.token, piece.token.logprob) for piece in pieces if piece.visible and piece.token.logprob is not None]
    content = [
        _entry(token.id, logprob, table) | {"top_logprobs": [_entry(other, value, table) for other, value in token.top]}
        for token, logprob in seen
    ]
    return {"content": content, "refusal": None}


def _entry(token: int, logprob: float, table: TokenTable) -> dict[str, Any]:
    return {"token": table.alone(token), "logprob": max(logprob, LEAST), "bytes": list(table.raw(token))}


def completion_logprobs(pieces: Iterable[Piece], table: TokenTable, wanted: int) -> dict[str, Any]:
    shown = [piece for piece in pieces if piece.visible]
    return {
        "tokens": [table.alone(piece.token.id) for piece in shown],
        "token_logprobs": [_finite(piece.token.logprob) for piece in shown],
        "top_logprobs": [_top(piece, table) for piece in shown] if wanted else None,
        "text_offset": [piece.start for piece in shown],
    }


def _finite(logprob: float | None) -> float | None:
    return None if logprob is None else max(logprob, LEAST)


def _top(piece: Piece, table: TokenTable) -> dict[str, float] | None:
    if piece.token.logprob is None:
        return None
    return {table.alone(token): max(value, LEAST) for token, value in piece.token.top}
