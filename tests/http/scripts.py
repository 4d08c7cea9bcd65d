"""Scripts for the fake answerer."""

from __future__ import annotations

from typing import Any

from services.edge_worker.answer import Decision, TokenOut
from services.edge_worker.fake_answerer import FakeAnswerer

CYCLE = list(Decision)
END = 2


def tokens(tokenizer: Any, text: str, *, end: bool = True, logprobs: bool = False) -> list[TokenOut]:
    """The tokens of ``text``, each with the next decision in turn, then the end token."""
    ids = tokenizer.encode(text, add_special_tokens=False) + ([END] if end else [])
    return [
        TokenOut(
            id=token,
            decision=CYCLE[n % len(CYCLE)],
            uncertainty=0.25,
            round=n // 4,
            replaced=ids[0] if CYCLE[n % len(CYCLE)] is Decision.CORRECTED else None,
            logprob=-0.5 if logprobs and n % 2 == 0 else None,
            top=((token, -0.5), (ids[0], -1.5)) if logprobs and n % 2 == 0 else (),
        )
        for n, token in enumerate(ids)
    ]


def says(tokenizer: Any, text: str, **options: Any) -> FakeAnswerer:
    """An answerer that always writes ``text``."""
    return FakeAnswerer(lambda _: tokens(tokenizer, text, **options))
