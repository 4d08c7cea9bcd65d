"""Scripts for the fake answerer."""

from __future__ import annotations

import ssl
from typing import Any

import httpx

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


def no_certificates() -> ssl.SSLContext:
    """For plain HTTP: reading the usual certificates takes a tenth of a second for each client."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def raw_http(base_url: str) -> httpx.AsyncClient:
    """A bare client, for what the OpenAI client would not send."""
    return httpx.AsyncClient(base_url=base_url, verify=no_certificates(), trust_env=False)


def says(tokenizer: Any, text: str, **options: Any) -> FakeAnswerer:
    """An answerer that always writes ``text``."""
    return FakeAnswerer(lambda _: tokens(tokenizer, text, **options))
