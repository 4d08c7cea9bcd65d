"""A real tokenizer, and real servers on free ports in the test's own event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import pytest_asyncio
import uvicorn
from fastapi import FastAPI
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from services.common.lm.loading import smollm2_gguf
from services.edge_worker.answer import Answer, AnswerRequest
from services.edge_worker.fake_answerer import FakeAnswerer
from services.edge_worker.http.app import create_app
from tests.http.scripts import no_certificates

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


class Host:
    """Serves apps until the test ends, or until ``stop`` with their number."""

    def __init__(self) -> None:
        self._running: list[tuple[Server, asyncio.Task[None], socket.socket]] = []

    async def __call__(self, app: FastAPI, lifespan: Literal["on", "off"] = "on") -> str:
        """The address of ``app``, which now runs under uvicorn on a free port."""
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        started = asyncio.Event()
        config = uvicorn.Config(app, log_config=None, lifespan=lifespan, timeout_graceful_shutdown=1)
        server = Server(config, started)
        self._running.append((server, asyncio.create_task(server.serve(sockets=[listener])), listener))
        await started.wait()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    async def stop(self, number: int) -> None:
        server, task, listener = self._running[number]
        server.stopping.set()
        await task
        listener.close()

    async def stop_all(self) -> None:
        for number in range(len(self._running)):
            await self.stop(number)


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Host]:
    host = Host()
    yield host
    await host.stop_all()


class Server(uvicorn.Server):
    """Says when it listens, and leaves the signals to pytest."""

    def __init__(self, config: uvicorn.Config, listening: asyncio.Event) -> None:
        super().__init__(config)
        self._listening = listening
        self.stopping = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.stopping.wait()


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
    serve: Host, tokenizer: Any, stage: Stage, shared_app: FastAPI
) -> AsyncIterator[Callable[..., Awaitable[AsyncOpenAI]]]:
    """Start an app over a ``FakeAnswerer``; returns an OpenAI client of it."""
    clients: list[AsyncOpenAI] = []

    async def start(answerer: FakeAnswerer, *, api_key: str = "none", **settings: Any) -> AsyncOpenAI:
        if settings:
            options: dict[str, Any] = {"model_name": MODEL, "context_tokens": CONTEXT, "end_ids": [END]}
            url = await serve(create_app(answerer, **({"tokenizer": tokenizer} | options | settings)))
        else:
            stage.actor = answerer
            url = await serve(shared_app, lifespan="off")
        http = DefaultAsyncHttpxClient(verify=no_certificates(), trust_env=False)
        clients.append(AsyncOpenAI(base_url=f"{url}/v1", api_key=api_key, max_retries=0, timeout=20, http_client=http))
        return clients[-1]

    yield start
    for client in clients:
        await client.close()
