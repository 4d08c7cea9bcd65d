"""SIGTERM with answers under way: they finish, or end with a reason and a last chunk; no connection is just cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from services.common.lifecycle import Phases
from services.common.rng import Floats
from services.edge_worker.answerer import SessionAnswerer
from services.edge_worker.app import drain
from services.edge_worker.fakes import LoopbackClient, TableDrafter
from services.edge_worker.http.app import create_app
from tests.edge_worker.conftest import Rig
from tests.http.conftest import CONTEXT, END, MODEL, Host
from tests.http.scripts import no_certificates

HELLO: list[Any] = [{"role": "user", "content": "hi"}]
WORDS = 200


def law(prefix: Any) -> Floats:
    """Plain words, never the end."""
    p = np.zeros(WORDS + 1000)
    p[1000 + len(prefix) % WORDS] = 1.0
    return p


class Bench:
    """A worker whose verdicts can be held back, behind a real HTTP server."""

    def __init__(self) -> None:
        self.client = LoopbackClient(law)
        self.drafter = TableDrafter(law)
        worker = Rig(client=self.client, drafter=self.drafter, end_ids=frozenset({END})).worker
        self.answerer = SessionAnswerer(worker)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest_asyncio.fixture
async def ask(bench: Bench, serve: Host, tokenizer: Any) -> AsyncIterator[AsyncOpenAI]:
    app = create_app(bench.answerer, tokenizer=tokenizer, model_name=MODEL, context_tokens=CONTEXT, end_ids=[END])
    url = await serve(app)
    http = DefaultAsyncHttpxClient(verify=no_certificates(), trust_env=False)
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=20, http_client=http) as client:
        yield client


async def stream(ask: AsyncOpenAI, started: asyncio.Event, **body: Any) -> list[Any]:
    """All chunks of an answer."""
    chunks = []
    extra = {"sluice": {"gamma": 0.0, "k": 4, "deadline": 20}}
    answer = await ask.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, max_tokens=400, extra_body=extra, **body
    )
    async for chunk in answer:
        chunks.append(chunk)
        started.set()
    return chunks


async def begun(answer: asyncio.Task[list[Any]], started: asyncio.Event) -> None:
    """Its first chunk has come; whatever it raised instead is raised here."""
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait({answer, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if answer.done():
        answer.result()


async def test_an_answer_that_outlasts_the_budget_ends_with_a_reason(bench: Bench, ask: AsyncOpenAI) -> None:
    started = asyncio.Event()
    answer = asyncio.create_task(stream(ask, started))
    await begun(answer, started)
    bench.client.hold = True  # from now on it waits for a verdict that does not come
    await drain(bench.answerer, Phases(1.0))
    assert not bench.answerer.running
    chunks = await answer  # the stream has a regular end
    last = chunks[-1]
    assert last.choices[0].finish_reason == "length"
    assert last.sluice["degraded"] == "the worker was shut down"
    assert last.sluice["tokens"]["total"] == sum(len(c.sluice["tokens"]) for c in chunks[1:-1])


async def test_an_answer_that_fits_into_the_budget_finishes(bench: Bench, ask: AsyncOpenAI) -> None:
    started = asyncio.Event()
    answer = asyncio.create_task(stream(ask, started))
    await begun(answer, started)
    draining = asyncio.create_task(drain(bench.answerer, Phases(20.0)))
    await asyncio.sleep(0)
    with pytest.raises(openai.APIStatusError, match="shutting down"):
        await ask.chat.completions.create(model=MODEL, messages=HELLO)
    chunks = await answer
    assert chunks[-1].choices[0].finish_reason == "length"
    assert chunks[-1].sluice["tokens"]["total"] == 400
    assert chunks[-1].sluice["degraded"] is None
    await asyncio.wait_for(draining, 5)
