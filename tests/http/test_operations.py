"""Keys, probes, metrics, life cycle."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import openai
import pytest
from fastapi import FastAPI
from openai import OpenAI
from prometheus_client import CollectorRegistry, Counter, Gauge
from pydantic import SecretStr

from services.common.health import Health
from services.edge_worker.http.api_keys import ApiKeys
from services.edge_worker.http.app import create_app
from tests.http.conftest import MODEL
from tests.http.scripts import raw_http, says

HELLO = [{"role": "user", "content": "hi"}]
KEYS = [SecretStr("key-one"), SecretStr("key-two")]


async def test_keys(api: Any, tokenizer: Any) -> None:
    answerer = says(tokenizer, "x")
    client = await api(answerer, api_key="key-two", api_keys=ApiKeys(KEYS))
    await client.chat.completions.create(model=MODEL, messages=HELLO)
    await client.with_options(api_key="key-one").chat.completions.create(model=MODEL, messages=HELLO)
    tenants = [request.tenant for request in answerer.requests]
    assert len(set(tenants)) == 2
    assert all(tenant and "key" not in tenant for tenant in tenants)
    with pytest.raises(openai.AuthenticationError, match="Incorrect API key") as caught:
        await client.with_options(api_key="key-on").models.list()
    assert caught.value.code == "invalid_api_key"
    async with raw_http(str(client.base_url)) as raw:
        missing = await raw.post("chat/completions", content=b"{")
        assert missing.status_code == 401
        assert missing.json()["error"]["code"] == "invalid_api_key"
        assert missing.headers["www-authenticate"] == "Bearer"
        assert (await raw.get("models", headers={"authorization": "Basic key-one"})).status_code == 401
        foreign = httpx.Headers({b"authorization": "Bearer schlüssel".encode()})
        assert (await raw.get("models", headers=foreign)).status_code == 401
        assert (await raw.get(str(client.base_url).replace("/v1/", "/livez"))).status_code == 200


async def test_a_client_s_trace_is_handed_on(api: Any, tokenizer: Any) -> None:
    answerer = says(tokenizer, "x")
    client = await api(answerer)
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for header in (parent, "junk" * 1000):
        await client.chat.completions.create(model=MODEL, messages=HELLO, extra_headers={"Traceparent": header})
    await client.completions.create(model=MODEL, prompt="hi", extra_headers={"traceparent": parent})
    await client.chat.completions.create(model=MODEL, messages=HELLO)
    found = [request.traceparent for request in answerer.requests]
    assert (found[0], found[2], found[3]) == (parent, parent, "")
    assert len(found[1]) < 300, "whatever a client sends is held for the whole answer"


async def test_probes_tell_what_is_stuck_and_which_links_are_up(api: Any, tokenizer: Any) -> None:
    health = Health(limit_seconds=5.0)
    stalled = [0.0]
    health.watch("draft model", lambda: stalled[0])
    health.notes.update(kafka=True, redis=False)
    client = await api(says(tokenizer, "x"), health=health)
    async with raw_http(str(client.base_url).replace("/v1/", "")) as raw:
        assert (await raw.get("/livez")).json() == {"status": "ok"}
        ready = await raw.get("/readyz")
        assert ready.status_code == 200  # it answers without links, too
        assert ready.json() == {"status": "ready", "links": {"kafka": True, "redis": False}}
        stalled[0] = 9.0
        stuck = await raw.get("/livez")
        assert stuck.status_code == 503
        assert "draft model" in stuck.json()["causes"]


async def test_open_without_keys(api: Any, tokenizer: Any) -> None:
    answerer = says(tokenizer, "x")
    client = await api(answerer, api_key="anything")
    await client.chat.completions.create(model=MODEL, messages=HELLO)
    assert answerer.requests[0].tenant == ""


async def test_probes_and_metrics(api: Any, tokenizer: Any) -> None:
    reason: list[str | None] = ["draining"]
    registry = CollectorRegistry()
    Counter("sluice_test", "A counter.", registry=registry).inc(3)
    Gauge("sluice_text", "many words " * 200, registry=registry)
    sizes: list[int] = []
    client = await api(says(tokenizer, "x"), readiness=lambda: reason[0], registry=registry, scraped=sizes.append)
    async with raw_http(str(client.base_url).removesuffix("/v1/")) as raw:
        assert (await raw.get("/livez")).json() == {"status": "ok"}
        response = await raw.get("/readyz")
        assert (response.status_code, response.json()["reason"]) == (503, "draining")
        reason[0] = None
        assert (await raw.get("/readyz")).status_code == 200
        metrics = await raw.get("/metrics")
        assert "sluice_test_total 3.0" in metrics.text
        assert metrics.headers["content-type"].startswith("text/plain")
        assert metrics.headers["content-encoding"] == "gzip", "what the client says it can read"
        plain = await raw.get("/metrics", headers={"accept-encoding": "identity"})
        assert plain.text == metrics.text
        assert sizes == [int(metrics.headers["content-length"]), len(plain.text)]
        assert sizes[0] < sizes[1] / 5


async def test_no_metrics_without_a_registry(api: Any, tokenizer: Any) -> None:
    client = await api(says(tokenizer, "x"))
    async with raw_http(str(client.base_url).removesuffix("/v1/")) as raw:
        assert (await raw.get("/metrics")).status_code == 404


async def test_sync_client(api: Any, tokenizer: Any) -> None:
    """The blocking client, in a thread of its own."""
    url = str((await api(says(tokenizer, "Hello 世界"))).base_url)

    def talk() -> str:
        with OpenAI(base_url=url, api_key="none", max_retries=0, timeout=20) as client:
            messages: Any = HELLO
            whole = client.chat.completions.create(model=MODEL, messages=messages).choices[0].message.content
            parts = client.chat.completions.create(model=MODEL, messages=messages, stream=True)
            assert "".join(part.choices[0].delta.content or "" for part in parts) == whole
            return whole or ""

    assert await asyncio.to_thread(talk) == "Hello 世界"


async def test_lifespan_of_the_caller_runs_and_the_tokeniser_thread_ends(serve: Any, tokenizer: Any) -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        seen.append("start")
        yield
        seen.append("stop")

    app = create_app(
        says(tokenizer, "x"), tokenizer=tokenizer, model_name=MODEL, context_tokens=64, end_ids=[2], lifespan=lifespan
    )
    before = set(threading.enumerate())
    url = await serve(app)
    async with raw_http(url) as raw:
        assert (await raw.post("/v1/completions", json={"model": MODEL, "prompt": "x"})).status_code == 200
    ours = [thread for thread in threading.enumerate() if thread not in before and thread.name.startswith("tokenizer")]
    assert len(ours) == 1
    await serve.stop(0)
    assert seen == ["start", "stop"]
    ours[0].join(5)
    assert not ours[0].is_alive()


async def test_a_long_prompt_does_not_hold_the_loop(api: Any, tokenizer: Any) -> None:
    """The best of three tries: on a busy machine the whole process may stand still."""
    client = await api(says(tokenizer, "x"))
    loop = asyncio.get_running_loop()

    async def stood_still(done: asyncio.Event) -> float:
        worst = 0.0
        while not done.is_set():
            before = loop.time()
            await asyncio.sleep(0.001)
            worst = max(worst, loop.time() - before)
        return worst

    tries = []
    for _ in range(3):
        done = asyncio.Event()
        probing = asyncio.create_task(stood_still(done))
        started = loop.time()
        with pytest.raises(openai.BadRequestError, match="maximum context length"):
            await client.completions.create(model=MODEL, prompt="héllo wörld " * 20_000)
        took = loop.time() - started
        done.set()
        tries.append((await probing, took))
    assert any(worst < max(0.1, took / 2) for worst, took in tries), f"the loop stood still: {tries} (seconds, of all)"
