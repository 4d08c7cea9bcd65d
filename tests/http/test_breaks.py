"""What breaks while an answer is written: outages, faults of ours, clients that leave, a server that stops."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import openai
import pytest
import structlog

from services.edge_worker.answer import AnswerStats, OutageError
from services.edge_worker.fake_answerer import FakeAnswerer, Gate
from tests.http.conftest import MODEL
from tests.http.scripts import raw_http, tokens

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
DOWN = "no verifier answered within 2 s; try again, or ask with on_outage=degrade"
SECONDS = 10


async def drain(client: Any, into: list[str] | None = None, **options: Any) -> None:
    """Ask, and read the answer to its end."""
    answer = await client.chat.completions.create(**CHAT, **options)
    if options.get("stream"):
        async for chunk in answer:
            if into is not None:
                into.append(chunk.choices[0].delta.content or "")


@pytest.mark.parametrize("stream", [False, True])
async def test_outage_before_the_first_token(api: Any, stream: bool) -> None:
    answerer = FakeAnswerer(lambda _: [OutageError(DOWN)])
    client = await api(answerer)
    with pytest.raises(openai.InternalServerError, match="no verifier answered") as caught:
        await client.chat.completions.create(**CHAT, stream=stream)
    assert caught.value.status_code == 503
    assert answerer.answers[0].closed.is_set()


async def test_outage_in_the_stream(api: Any, tokenizer: Any) -> None:
    answerer = FakeAnswerer(lambda _: [*tokens(tokenizer, "so far so", end=False), OutageError(DOWN)])
    client = await api(answerer)
    text: list[str] = []
    with pytest.raises(openai.APIError, match="no verifier answered") as caught:
        await drain(client, text, stream=True, stop="sooner")
    assert "".join(text) == "so far so", "final tokens are shown, also those held back"
    assert caught.value.code == "outage"
    assert answerer.answers[0].closed.is_set()
    async with raw_http(str(client.base_url)) as raw:
        body = (await raw.post("chat/completions", json=CHAT | {"stream": True})).text
    assert "[DONE]" not in body
    last = json.loads(body.strip().split("data: ")[-1])
    assert last["error"]["type"] == "server_error"
    assert last["sluice"]["tokens"]["total"] == 3


async def test_outage_in_a_whole_answer(api: Any, tokenizer: Any) -> None:
    client = await api(FakeAnswerer(lambda _: [*tokens(tokenizer, "so far"), OutageError(DOWN)]))
    with pytest.raises(openai.InternalServerError, match="no verifier answered"):
        await client.chat.completions.create(**CHAT)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_ends_with_an_error(api: Any, tokenizer: Any, stream: bool) -> None:
    def broken() -> AnswerStats:
        return AnswerStats(finish_reason="error", degraded_reason="the drain budget is spent")

    client = await api(FakeAnswerer(lambda _: tokens(tokenizer, "so far"), broken))
    with pytest.raises(openai.APIError, match="drain budget"):
        await drain(client, stream=stream)


async def test_a_degraded_answer_says_so(api: Any, tokenizer: Any) -> None:
    def degraded() -> AnswerStats:
        return AnswerStats(
            lost_rounds=1, judged=4, rounds=2, payload_bytes=321, degraded_reason="no verdict in 2 s", accepted=0
        )

    client = await api(FakeAnswerer(lambda _: tokens(tokenizer, "so far"), degraded))
    sluice = (await client.chat.completions.create(**CHAT)).sluice
    assert sluice["degraded"] == "no verdict in 2 s"
    assert (sluice["rounds"], sluice["lost_rounds"], sluice["uplink_payload_bytes"]) == (2, 1, 321)
    assert sluice["upload_rate"] == pytest.approx(4 / 3)
    assert sluice["acceptance"] == pytest.approx(1 / 4)
    assert set(sluice["seconds"]) == {"draft", "wait", "verify"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("where", ["start", "first", "later"])
async def test_a_fault_of_ours(api: Any, tokenizer: Any, stream: bool, where: str) -> None:
    secret = RuntimeError("token 4711 of the user's text")

    def play(_: Any) -> Any:
        if where == "start":
            raise secret
        return [secret] if where == "first" else [*tokens(tokenizer, "so", end=False), secret]

    client = await api(FakeAnswerer(play))
    with structlog.testing.capture_logs() as logs, pytest.raises(openai.APIError) as caught:
        await drain(client, stream=stream)
    assert caught.value.code == "internal_error"
    assert "4711" not in str(caught.value)
    faults = [line for line in logs if line["event"] == "request_failed"]
    assert len(faults) == 1
    assert faults[0]["error"] == "RuntimeError"
    assert any("test_breaks.py" in frame or "fake_answerer.py" in frame for frame in faults[0]["where"])
    assert "4711" not in str(faults)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("when", ["before the first token", "in the middle"])
async def test_disconnect_stops_the_work(api: Any, tokenizer: Any, stream: bool, when: str) -> None:
    gate = Gate()
    before = [] if when == "before the first token" else tokens(tokenizer, "one two", end=False)
    answerer = FakeAnswerer(lambda _: [*before, gate, *tokens(tokenizer, " three")])
    client = await api(answerer)
    asking = asyncio.create_task(drain(client, stream=stream))
    await asyncio.wait_for(gate.reached.wait(), SECONDS)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    await asyncio.wait_for(answerer.answers[0].closed.wait(), SECONDS)
    assert not answerer.answers[0].finished


async def test_breaking_out_of_a_stream_stops_the_work(api: Any, tokenizer: Any) -> None:
    gate = Gate()
    answerer = FakeAnswerer(lambda _: [*tokens(tokenizer, "one", end=False), gate, *tokens(tokenizer, " two")])
    client = await api(answerer)
    stream = await client.chat.completions.create(**CHAT, stream=True)
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    await stream.close()
    await asyncio.wait_for(answerer.answers[0].closed.wait(), SECONDS)


async def test_tokens_are_sent_as_they_come(api: Any, tokenizer: Any) -> None:
    gates = [Gate(), Gate()]
    one, two = (tokens(tokenizer, text, end=False) for text in ("one", " two"))
    client = await api(FakeAnswerer(lambda _: [*one, gates[0], *two, gates[1]]))
    stream = await client.chat.completions.create(**CHAT, stream=True)
    seen = ""
    async for chunk in stream:
        seen += chunk.choices[0].delta.content or ""
        if seen == "one":
            gates[0].open.set()
        if seen == "one two":
            gates[1].open.set()
    assert seen == "one two"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_server_that_stops_says_so(serve: Any, api: Any, tokenizer: Any, stream: bool) -> None:
    gate = Gate()
    answerer = FakeAnswerer(lambda _: [*tokens(tokenizer, "one", end=False), gate])
    client = await api(answerer)
    asking = asyncio.create_task(drain(client, stream=stream))
    await asyncio.wait_for(gate.reached.wait(), SECONDS)
    await serve.stop(0)
    with pytest.raises(openai.APIError, match="shutting down"):
        await asyncio.wait_for(asking, SECONDS)
    assert answerer.answers[0].closed.is_set()
