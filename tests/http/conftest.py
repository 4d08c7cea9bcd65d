"""A real tokenizer, and real servers on free ports in the test's own event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal

import pytest
import pytest_asyncio
import uvicorn
from fastapi import FastAPI
from openai import AsyncOpenAI

from services.common.lm.loading import smollm2_gguf
from services.edge_worker.answer import Answer, AnswerRequest
from services.edge_worker.fake_answerer import FakeAnswerer
from services.edge_worker.http.app import create_app

MODEL = "smollm2-135m"
CONTEXT = 2048
END = 2  # <|im_end|>


@pytest.fixture(scope="session")
def tokenizer(pytestconfig: pytest.Config) -> Any:
    """SmolLM2's tokenizer. Reading it out of the GGUF file takes seconds, so the result is kept between runs."""
    from transformers import AutoTokenizer, __version__

    source = smollm2_gguf()
    name = f"smollm2-tokenizer-{source.stat().st_size}-{__version__}"
    cache: pytest.Cache | None = getattr(pytestconfig, "cache", None)  # absent under -p no:cacheprovider
    folder = Path(cache.mkdir(name)) if cache is not None else None
    if folder is not None and (folder / "tokenizer.json").exists():
        return AutoTokenizer.from_pretrained(str(folder))
    loaded = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
    if folder is not None:
        loaded.save_pretrained(str(folder))
    return loaded


Serve = Callable[..., Awaitable[str]]


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start an app under uvicorn; returns its address. Stopped at the end of the test."""
    async with AsyncExitStack() as stack:

        async def start(app: FastAPI, lifespan: Literal["on", "off"] = "on") -> str:
            listener = socket.socket()
            listener.bind(("127.0.0.1", 0))
            started = asyncio.Event()
            config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, lifespan=lifespan)
            server = Server(config, started)
            task = asyncio.create_task(server.serve(sockets=[listener]))

            async def stop() -> None:
                server.should_exit = True
                await task
                listener.close()

            stack.push_async_callback(stop)
            await started.wait()
            return f"http://127.0.0.1:{listener.getsockname()[1]}"

        yield start


class Server(uvicorn.Server):
    """Says when it listens, and leaves the signals to pytest."""

    def __init__(self, config: uvicorn.Config, listening: asyncio.Event) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening.set()


class Stage:
    """An answerer that hands over to whichever one the test put there."""

    actor: FakeAnswerer

    def answer(self, request: AnswerRequest) -> Answer:
        return self.actor.answer(request)


@pytest.fixture(scope="session")
def stage() -> Stage:
    return Stage()


@pytest.fixture(scope="session")
def shared_app(stage: Stage, tokenizer: Any) -> FastAPI:
    """The app with default settings; built once, since it copies the tokenizer."""
    return create_app(stage, tokenizer=tokenizer, model_name=MODEL, context_tokens=CONTEXT, end_ids=[END])


@pytest_asyncio.fixture
async def api(
    serve: Serve, tokenizer: Any, stage: Stage, shared_app: FastAPI
) -> AsyncIterator[Callable[..., Awaitable[AsyncOpenAI]]]:
    """Start an app over a ``FakeAnswerer``; returns an OpenAI client of it."""
    clients: list[AsyncOpenAI] = []

    async def start(answerer: FakeAnswerer, *, api_key: str = "none", **settings: Any) -> AsyncOpenAI:
        if settings:
            options: dict[str, Any] = {"model_name": MODEL, "context_tokens": CONTEXT, "end_ids": [END]} | settings
            url = await serve(create_app(answerer, tokenizer=tokenizer, **options))
        else:
            stage.actor = answerer
            url = await serve(shared_app, lifespan="off")
        clients.append(AsyncOpenAI(base_url=f"{url}/v1", api_key=api_key, max_retries=0, timeout=20))
        return clients[-1]

    yield start
    for client in clients:
        await client.close()
