"""Build the edge worker's HTTP application."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from services.common.health import Health
from services.edge_worker.answer import Answerer
from services.edge_worker.http.api_keys import ApiKeys
from services.edge_worker.http.bounds import Bounds
from services.edge_worker.http.detokenise import TokenTable
from services.edge_worker.http.endpoints import Endpoints, Promise, promise_nothing
from services.edge_worker.http.errors import ApiError
from services.edge_worker.http.guard import Guard
from services.edge_worker.http.probes import Readiness, add_probes
from services.edge_worker.http.prompts import PromptEncoder
from services.edge_worker.http.watch import Unwatched, Watch

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(
    answerer: Answerer,
    *,
    tokenizer: Any,
    model_name: str,
    context_tokens: int,
    end_ids: Iterable[int],
    bounds: Bounds | None = None,
    api_keys: ApiKeys | None = None,
    readiness: Readiness | None = None,
    registry: CollectorRegistry | None = None,
    health: Health | None = None,
    scraped: Callable[[int], None] = lambda size: None,
    lifespan: Lifespan | None = None,
    promise: Promise = promise_nothing,
    watch: Watch | None = None,
) -> FastAPI:
    """The OpenAI HTTP API over ``answerer``.

    ``tokenizer``: a fast Hugging Face tokenizer; it is copied. ``context_tokens``: prompt and answer together. ``end_ids``:
    tokens that end an answer, never shown. ``api_keys``: none means open to all. ``readiness``: None, or why not ready.
    ``scraped`` is told the bytes of each page of metrics. ``promise``: what an answer guarantees; ``watch``: whether its
    damage stays where that says, None: nobody looks. ``ValueError`` where these contradict each other.
    """
    if context_tokens < 2:
        raise ValueError(f"context_tokens is {context_tokens}; an answer needs at least 2")
    bounds = bounds or Bounds()
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ValueError("the tokenizer has no fast form (tokenizer.json); the HTTP API needs one")
    # others may change settings of theirs while a thread of ours encodes, which the library answers with "Already borrowed"
    tokenizer = copy.deepcopy(tokenizer)
    encoder = PromptEncoder(tokenizer, context_tokens=context_tokens, bounds=bounds)
    ends = frozenset(end_ids)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with lifespan(app) if lifespan is not None else nullcontext():
                yield
        finally:
            encoder.close()

    guard = Middleware(Guard, api_keys=api_keys or ApiKeys(), body_bytes=bounds.body_bytes)
    app = FastAPI(title="Sluice", openapi_url=None, lifespan=life, middleware=[guard], redirect_slashes=False)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(HTTPException, _http_error)
    table = TokenTable(tokenizer, tuple(ends))
    Endpoints(answerer, encoder, table, model_name, context_tokens, ends, bounds, promise, watch or Unwatched()).add_to(app)
    add_probes(app, readiness, registry, health, scraped)
    return app


async def _api_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    return error.response()


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    where = f"{request.method} {request.url.path[:200]}"
    if error.status_code == 404:
        told = ApiError(404, f"Unknown request URL: {where}", code="unknown_url")
    elif error.status_code == 405:
        told = ApiError(405, f"Method not allowed: {where}", code="method_not_allowed")
    else:
        told = ApiError(error.status_code, str(error.detail))
    told.headers = dict(error.headers or {})
    return told.response()
