"""Every error in OpenAI's shape, as the client raises it; every limit named."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

from services.edge_worker.answer import BusyError
from services.edge_worker.fake_answerer import FakeAnswerer
from services.edge_worker.http.bounds import Bounds
from tests.http.conftest import CONTEXT, MODEL
from tests.http.scripts import raw_http, says

HELLO = [{"role": "user", "content": "hi"}]
CHAT = {"model": MODEL, "messages": HELLO}


def checked(response: httpx.Response, status: int) -> dict[str, Any]:
    """The error object of ``response``, whose shape is checked."""
    assert response.status_code == status, response.text
    assert response.headers["x-request-id"]
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert "Traceback" not in response.text
    return dict(body["error"])


BAD_CHAT: list[tuple[dict[str, Any], str, str]] = [
    ({"n": 2}, "n", "not supported"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "not supported"),
    ({"tool_choice": "required"}, "tool_choice", "not supported"),
    ({"functions": [{"name": "f"}]}, "functions", "not supported"),
    ({"response_format": {"type": "json_object"}}, "response_format", "not supported"),
    ({"logit_bias": {"5": 1}}, "logit_bias", "not supported"),
    ({"frequency_penalty": 0.5}, "frequency_penalty", "not supported"),
    ({"presence_penalty": -1}, "presence_penalty", "not supported"),
    ({"audio": {"voice": "x", "format": "wav"}}, "audio", "not supported"),
    ({"modalities": ["text", "audio"]}, "modalities", "not supported"),
    ({"min_p": 0.1}, "min_p", "Unrecognized"),
    ({"temperature": 2.5}, "temperature", "2"),
    ({"temperature": "hot"}, "temperature", "number"),
    ({"top_p": 1.5}, "top_p", "1"),
    ({"seed": 1 << 70}, "seed", ""),
    ({"max_tokens": 0}, "max_tokens", f"1 to {CONTEXT - 1}"),
    ({"max_tokens": -3}, "max_tokens", f"1 to {CONTEXT - 1}"),
    ({"max_tokens": 1_000_000}, "max_tokens", f"1 to {CONTEXT - 1}"),
    ({"max_completion_tokens": 10**30}, "max_completion_tokens", f"1 to {CONTEXT - 1}"),
    ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens", "differ"),
    ({"max_tokens": CONTEXT - 1}, "max_tokens", f"maximum context length is {CONTEXT} tokens"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "at most 4"),
    ({"stop": [""]}, "stop", "empty"),
    ({"stop": 5}, "stop", "string"),
    ({"stop": "x" * 300}, "stop", "256"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "stream"),
    ({"top_logprobs": 3}, "top_logprobs", "logprobs"),
    ({"logprobs": True, "top_logprobs": 50}, "top_logprobs", "20"),
    ({"messages": []}, "messages", "at least one"),
    ({"messages": "hi"}, "messages", "list"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "tool messages"),
    ({"messages": [{"role": ["x"], "content": "x"}]}, "messages[0].role", "one of"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "text parts"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "messages[0].content[0]",
        "image_url",
    ),
    ({"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]}, "messages[0].tool_calls", "not supported"),
    ({"messages": [{"role": "user", "content": "a " * CONTEXT}]}, "messages", f"maximum context length is {CONTEXT} tokens"),
    ({"sluice": {"k": 17}}, "sluice.k", "0 to 16"),
    ({"sluice": {"k": 1.5}}, "sluice.k", "integer"),
    ({"sluice": {"gamma": -0.1}}, "sluice.gamma", "0 to 10"),
    ({"sluice": {"gamma": 10**400}}, "sluice.gamma", "0 to 10"),
    ({"sluice": {"gamma": True}}, "sluice.gamma", "number"),
    ({"sluice": {"deadline": 3600}}, "sluice.deadline", "0.01 to 60"),
    ({"sluice": {"mode": "fast"}}, "sluice.mode", "opportunistic, lossless"),
    ({"sluice": {"on_outage": "panic"}}, "sluice.on_outage", "degrade, wait, error"),
    ({"sluice": {"mode": "lossless", "k": 0}}, "sluice.k", "lossless"),
    ({"sluice": {"gama": 1}}, "sluice.gama", "unknown key"),
    ({"sluice": [1]}, "sluice", "object"),
]


async def test_bad_chat_parameters_are_named(api: Any, tokenizer: Any) -> None:
    answerer = says(tokenizer, "never")
    client = await api(answerer)
    for change, param, says_so in BAD_CHAT:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.post("/chat/completions", body=CHAT | change, cast_to=httpx.Response)
        error = caught.value
        assert error.param == param, change
        assert says_so in error.message, (change, error.message)
        assert error.type == "invalid_request_error"
        assert error.code, change
    assert answerer.requests == []


BAD_COMPLETION: list[tuple[dict[str, Any], str]] = [
    ({"echo": True}, "echo"),
    ({"best_of": 3}, "best_of"),
    ({"n": 2}, "n"),
    ({"suffix": "x"}, "suffix"),
    ({"logprobs": 6}, "logprobs"),
    ({"prompt": ["a", "b"]}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": [1, "a"]}, "prompt"),
    ({"prompt": [1, 49152]}, "prompt"),
    ({"prompt": [1, -1]}, "prompt"),
    ({"prompt": [1] * CONTEXT}, "prompt"),
    ({"prompt": {"a": 1}}, "prompt"),
]


async def test_bad_completion_parameters_are_named(api: Any, tokenizer: Any) -> None:
    client = await api(says(tokenizer, "never"))
    for change, param in BAD_COMPLETION:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.post("/completions", body={"model": MODEL, "prompt": "x"} | change, cast_to=httpx.Response)
        assert caught.value.param == param, change


async def test_context_length_exceeded_has_the_numbers(api: Any, tokenizer: Any) -> None:
    client = await api(says(tokenizer, "never"))
    with pytest.raises(openai.BadRequestError, match=f"{CONTEXT} tokens") as caught:
        await client.completions.create(model=MODEL, prompt=[5] * 3000)
    assert caught.value.code == "context_length_exceeded"
    assert "3000 tokens" in caught.value.message
    with pytest.raises(openai.BadRequestError, match="300000 characters") as caught:
        await client.completions.create(model=MODEL, prompt="a" * 300_000)
    assert caught.value.code == "context_length_exceeded"


HARMLESS: list[dict[str, Any]] = [
    {"store": True, "metadata": {"a": "b"}, "user": "me", "service_tier": "auto", "safety_identifier": "x"},
    {"n": 1, "frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "response_format": {"type": "text"}},
    {"tools": [], "tool_choice": "none", "modalities": ["text"], "parallel_tool_calls": True, "audio": None},
    {"sluice": {}, "stop": None, "seed": None, "max_tokens": None, "temperature": None},
]


@pytest.mark.parametrize("extra", HARMLESS)
async def test_harmless_parameters_pass(api: Any, tokenizer: Any, extra: dict[str, Any]) -> None:
    client = await api(says(tokenizer, "fine"))
    answer = await client.chat.completions.create(**CHAT, extra_body=extra)
    assert answer.choices[0].message.content == "fine"


async def test_malformed_requests(api: Any, tokenizer: Any) -> None:
    client = await api(says(tokenizer, "never"))
    async with raw_http(str(client.base_url)) as raw:
        for body in (b"{", b"", b"[1]", b'"x"', b'{"model": "\\ud800"}', b'{"temperature": NaN}', b"[" * 5000, b"\xff\xfe"):
            error = checked(await raw.post("chat/completions", content=body), 400)
            assert error["type"] == "invalid_request_error"
        error = checked(await raw.post("chat/completions", json={"messages": HELLO}), 400)
        assert (error["param"], error["code"]) == ("model", "missing_required_parameter")
        error = checked(await raw.post("chat/completions", json={"model": MODEL}), 400)
        assert error["param"] == "messages"
        assert checked(await raw.get("nothing/here"), 404)["code"] == "unknown_url"
        wrong = await raw.get("chat/completions")
        assert checked(wrong, 405)["code"] == "method_not_allowed"
        assert wrong.headers["allow"] == "POST"
        packed = await raw.post("chat/completions", content=b"x", headers={"content-encoding": "gzip"})
        assert checked(packed, 415)["code"] == "unsupported_content_encoding"


async def test_body_too_large(api: Any, tokenizer: Any) -> None:
    client = await api(says(tokenizer, "never"))

    async def pour() -> Any:
        for _ in range(20):
            yield b" " * 65536

    async with raw_http(str(client.base_url)) as raw:
        for content in (b" " * 600_000, pour()):
            error = checked(await raw.post("chat/completions", content=content), 413)
            assert "524288 bytes" in error["message"]


async def test_unknown_model(api: Any, tokenizer: Any) -> None:
    client = await api(says(tokenizer, "never"))
    with pytest.raises(openai.NotFoundError, match="gpt-x") as caught:
        await client.chat.completions.create(model="gpt-x", messages=HELLO)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-x")


async def test_busy(api: Any) -> None:
    def full(_: Any) -> Any:
        raise BusyError("all 2 sessions are in use", 2.2)

    client = await api(FakeAnswerer(full))
    for stream in (False, True):
        with pytest.raises(openai.RateLimitError, match="all 2 sessions") as caught:
            await client.chat.completions.create(**CHAT, stream=stream)
        assert caught.value.response.headers["retry-after"] == "3"


async def test_template_refusal(api: Any, tokenizer: Any) -> None:
    import copy

    picky = copy.deepcopy(tokenizer)
    picky.chat_template = "{{ raise_exception('roles must alternate') }}"
    client = await api(says(tokenizer, "x"), tokenizer=picky)
    with pytest.raises(openai.BadRequestError, match="roles must alternate"):
        await client.chat.completions.create(**CHAT)
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    client = await api(says(tokenizer, "x"), tokenizer=bare)
    with pytest.raises(openai.BadRequestError, match="no chat template"):
        await client.chat.completions.create(**CHAT)
    assert (await client.completions.create(model=MODEL, prompt="hi")).choices[0].text == "x"


@pytest.mark.parametrize(
    "wrong",
    [
        {"default_k": 20},
        {"default_gamma": 11},
        {"default_deadline": 100},
        {"modes": ("lossless",)},
        {"default_mode": "lossless", "default_k": 0},
    ],
)
def test_contradicting_bounds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="default_"):
        Bounds(**wrong)
