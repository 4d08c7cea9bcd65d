"""Chat through the real client, streamed and whole."""

from __future__ import annotations

from typing import Any

import pytest

from services.edge_worker.fake_answerer import FakeAnswerer
from tests.http.conftest import MODEL
from tests.http.scripts import says

HELLO = [{"role": "user", "content": "hi"}]
TEXT = "Hello, 世界! Here is an emoji 👍🏽 and  two spaces.\n\nBye"


async def test_whole(api: Any, tokenizer: Any) -> None:
    answerer = says(tokenizer, TEXT)
    client = await api(answerer)
    answer = await client.chat.completions.create(model=MODEL, messages=HELLO, seed=7, temperature=0.5, top_p=0.9)
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.object == "chat.completion"
    request = answerer.requests[0]
    assert (request.seed, request.sampling.temperature, request.sampling.top_p) == (7, 0.5, 0.9)
    count = len(tokenizer.encode(TEXT)) + 1
    assert answer.usage.completion_tokens == count
    assert answer.usage.prompt_tokens == len(request.prompt_ids)
    assert answer.usage.total_tokens == count + len(request.prompt_ids)
    expected = tokenizer.apply_chat_template(HELLO, tokenize=True, add_generation_prompt=True)["input_ids"]
    assert request.prompt_ids == expected
    sluice = answer.sluice
    assert sluice["tokens"]["total"] == count == sum(n for key, n in sluice["tokens"].items() if key != "total")
    assert sluice["mode"] == "opportunistic"
    assert sluice["lossless"] is False
    assert sluice["guarantee"] == "none"
    assert sluice["degraded"] is None
    assert answerer.answers[0].closes >= 1


@pytest.mark.parametrize("include_usage", [False, True])
async def test_stream(api: Any, tokenizer: Any, include_usage: bool) -> None:
    answerer = says(tokenizer, TEXT)
    client = await api(answerer)
    stream = await client.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": include_usage}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].choices[0].delta.content == ""
    assert len({chunk.id for chunk in chunks}) == 1
    body = chunks[:-1] if include_usage else chunks
    assert all(chunk.usage is None for chunk in body)
    if include_usage:
        assert chunks[-1].choices == []
        assert chunks[-1].usage.completion_tokens == len(tokenizer.encode(TEXT)) + 1
    text = "".join(chunk.choices[0].delta.content or "" for chunk in body)
    assert text == TEXT
    assert "\ufffd" not in text
    assert [chunk.choices[0].finish_reason for chunk in body] == [None] * (len(body) - 1) + ["stop"]
    entries = [entry for chunk in body[1:-1] for entry in chunk.sluice["tokens"]]
    assert "".join(entry["text"] for entry in entries) == TEXT
    assert len(entries) == body[-1].sluice["tokens"]["total"]
    for chunk in body[1:-1]:
        assert chunk.choices[0].delta.content == "".join(entry["text"] for entry in chunk.sluice["tokens"])
    corrected = [entry for entry in entries if entry["decision"] == "corrected"]
    assert corrected
    assert all(entry["replaced"] == "Hello" for entry in corrected)
    assert all(entry["replaced"] is None for entry in entries if entry["decision"] != "corrected")


async def test_sync_client_and_request_id(api: Any, tokenizer: Any) -> None:
    client = await api(says(tokenizer, TEXT))
    raw = await client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO)
    assert raw.headers["x-request-id"].startswith("req_")
    raw = await client.chat.completions.with_raw_response.create(
        model=MODEL, messages=HELLO, extra_headers={"x-request-id": "mine-1"}
    )
    assert raw.headers["x-request-id"] == "mine-1"


async def test_random_seed_differs(api: Any, tokenizer: Any) -> None:
    answerer = says(tokenizer, "x")
    client = await api(answerer)
    for _ in range(2):
        await client.chat.completions.create(model=MODEL, messages=HELLO)
    assert answerer.requests[0].seed != answerer.requests[1].seed


async def test_length(api: Any, tokenizer: Any) -> None:
    client = await api(says(tokenizer, "one two", end=False))
    answer = await client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=2)
    assert answer.choices[0].finish_reason == "length"


async def test_empty_answer(api: Any) -> None:
    client = await api(FakeAnswerer(lambda _: []))
    answer = await client.chat.completions.create(model=MODEL, messages=HELLO)
    assert answer.choices[0].message.content == ""
    stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, "length"]
