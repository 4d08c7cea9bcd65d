"""The default pair through the whole system: separate processes, a real Kafka protocol, a real Redis, the OpenAI client.

Both sides run in float32 here, so that greedy text must be the target's own token for token.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import torch
from scipy import stats

from services.cli.local.options import StackOptions
from services.cli.local.stack import Stack
from services.common.lm import loading
from services.common.sampling import Sampling
from services.common.warp import distribution

ALPHA = 1e-6
GREEDY_TOKENS = 16
QUESTIONS = [
    "What is the capital of France?",
    "Name three colours.",
    "What is 7 + 5?",
    "Write one sentence about the sea.",
    "Who wrote Hamlet?",
    "What do bees make?",
    "Explain gravity in one sentence.",
    "List two fruits.",
    "What is the opposite of hot?",
    "How many days has a week?",
    "Say hello in Spanish.",
    "What is water made of?",
    "Name a large animal.",
    "What is a noun?",
    "Give a tip for sleeping well.",
    "What is the largest planet?",
    "Write a short greeting.",
    "Why is the sky blue?",
    "What is a triangle?",
    "Name a season.",
]
LOSSLESS = {"sluice": {"mode": "lossless", "deadline": 30}}
HLM = {"sluice": {"gamma": 0.0, "deadline": 30}}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    settings = {"SLUICE_VERIFIER_DTYPE": "float32", "SLUICE_VERIFIER_WEIGHTS": "float32"}
    with Stack(StackOptions(verifiers=2, verifier_environment=settings)) as running:
        yield running
    assert running.nursery.leftovers() == []


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    http = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0, timeout=120, http_client=http) as made:
        yield made


@pytest.fixture(scope="module")
def target() -> loading.LoadedModel:
    return loading.load("smollm2-135m", dtype="float32", weights="float32")


def ask(client: openai.OpenAI, question: str, **options: Any) -> Any:
    messages: Any = [{"role": "user", "content": question}]
    return client.chat.completions.create(model="sluice", messages=messages, **options)


def prompt_ids(target: loading.LoadedModel, question: str) -> list[int]:
    text = target.tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
    )
    ids: list[int] = target.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def own_greedy(target: loading.LoadedModel, question: str) -> list[int]:
    ids = torch.tensor([prompt_ids(target, question)])
    model: Any = target.model
    end = sorted(target.end_ids)
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=GREEDY_TOKENS,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=end[0],
    )
    return list(out[0, ids.shape[1] :].tolist())


@pytest.mark.timeout(600)
def test_greedy_text_is_the_target_s_own_for_twenty_prompts(client: openai.OpenAI, target: loading.LoadedModel) -> None:
    for question in QUESTIONS:
        own = own_greedy(target, question)
        for extra in (HLM, LOSSLESS):
            answer = ask(client, question, max_tokens=GREEDY_TOKENS, temperature=0, seed=7, extra_body=extra)
            expected = str(target.tokenizer.decode(own, skip_special_tokens=True)).rstrip("\ufffd")  # a character cut in half
            assert answer.choices[0].message.content == expected
            assert answer.usage.completion_tokens == len(own)
            assert answer.sluice["lossless"] is True
            assert answer.sluice["tokens"]["unverified"] == answer.sluice["tokens"]["skipped"] == 0


@pytest.mark.timeout(600)
def test_short_answers_at_temperature_one_follow_the_target_s_law(client: openai.OpenAI, target: loading.LoadedModel) -> None:
    """Chi-square over whole answers of two tokens; false-alarm rate 1e-6, fixed seeds; the law by plain forward passes."""
    question, top_p, count = "Name a colour.", 0.6, 160
    prompt = prompt_ids(target, question)
    law: dict[tuple[int, ...], float] = {(): 1.0}
    sampling = Sampling(temperature=1.0, top_p=top_p)
    for _ in range(2):
        wider: dict[tuple[int, ...], float] = {}
        for text, p in law.items():
            if text and text[-1] in target.end_ids:
                wider[text] = p
                continue
            with torch.inference_mode():
                model: Any = target.model
                logits = model(input_ids=torch.tensor([[*prompt, *text]])).logits[0, -1:, : target.vocabulary]
            row = distribution(logits, sampling)[0].double()
            for token in row.nonzero().flatten().tolist():
                wider[(*text, token)] = p * float(row[token])
        law = wider
    by_text: dict[str, float] = {}
    for text, p in law.items():
        shown = str(target.tokenizer.decode(list(text), skip_special_tokens=True)).rstrip("\ufffd")
        by_text[shown] = by_text.get(shown, 0.0) + p
    seen = Counter(
        ask(client, question, max_tokens=2, temperature=1, top_p=top_p, seed=seed, extra_body=LOSSLESS)
        .choices[0]
        .message.content
        for seed in range(count)
    )
    assert set(seen) <= set(by_text)
    observed = np.array([seen[t] for t in by_text], dtype=float)
    expected = np.array(list(by_text.values())) * count
    rare = expected < 5
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    keep = expected > 0
    assert keep.sum() > 3
    assert stats.chisquare(observed[keep], expected[keep] * observed.sum() / expected[keep].sum()).pvalue > ALPHA


def test_a_stream_says_what_became_of_each_token_and_equals_the_whole_answer(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"max_tokens": 24, "temperature": 1, "seed": 11}
    whole = ask(client, QUESTIONS[3], **options)
    stream = ask(client, QUESTIONS[3], stream=True, stream_options={"include_usage": True}, **options)
    text, fates, usage, summary = "", [], None, None
    for chunk in stream:
        usage = chunk.usage or usage
        extra = getattr(chunk, "sluice", None) or {}
        if isinstance(extra.get("tokens"), list):
            fates += [t["decision"] for t in extra["tokens"]]
        elif extra:
            summary = extra
        for choice in chunk.choices:
            text += choice.delta.content or ""
    assert text == whole.choices[0].message.content
    assert usage is not None
    assert usage.completion_tokens == whole.usage.completion_tokens == len(fates)
    assert summary is not None
    assert {k: v for k, v in summary["tokens"].items() if k != "total" and v} == dict(Counter(fates))
    assert summary["damage"] >= 0


def test_stop_and_seed(client: openai.OpenAI) -> None:
    first = ask(client, QUESTIONS[3], max_tokens=24, temperature=1, seed=5)
    again = ask(client, QUESTIONS[3], max_tokens=24, temperature=1, seed=5)
    text = first.choices[0].message.content
    assert again.choices[0].message.content == text
    word = text.split()[2]
    cut = ask(client, QUESTIONS[3], max_tokens=24, temperature=1, seed=5, stop=[word])
    assert cut.choices[0].message.content == text[: text.index(word)]
    assert cut.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1_000_000}, "max_tokens"),
        ({"n": 2}, "n"),
        ({"extra_body": {"sluice": {"gamma": 99}}}, "gamma"),
        ({"extra_body": {"sluice": {"mode": "lossless", "k": 0}}}, "k"),
    ],
)
def test_bad_requests_name_what_is_wrong(client: openai.OpenAI, options: dict[str, Any], names: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, "Hello", **options)
    assert names in str(caught.value)


def test_a_prompt_longer_than_the_context_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, "word " * 5000, max_tokens=8)
    assert caught.value.code == "context_length_exceeded"


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "Hi"}])


@pytest.mark.timeout(300)
def test_redis_stopped_in_mid_answer_degrades_and_comes_back(stack: Stack, client: openai.OpenAI) -> None:
    stream = ask(
        client,
        "Tell me a long story.",
        stream=True,
        max_tokens=40,
        temperature=1,
        seed=3,
        extra_body={"sluice": {"gamma": 0.0, "deadline": 2}},
    )
    summary: dict[str, Any] = {}
    stopped = False
    try:
        for chunk in stream:
            extra = getattr(chunk, "sluice", None) or {}
            if isinstance(extra.get("tokens"), list):
                if not stopped:
                    stack.stop_redis()
                    stopped = True
            elif extra:
                summary = extra
    finally:
        if stopped:
            stack.start_redis()
    assert summary["tokens"]["unverified"] > 0
    assert summary["tokens"]["total"] == 40 or summary["tokens"]["total"] > summary["tokens"]["unverified"]
    assert summary["degraded"]
    assert summary["lossless"] is False
    for seed in range(60):
        answer = ask(client, "Hello", max_tokens=8, seed=seed, extra_body=HLM)
        if answer.sluice["judged"] and not answer.sluice["tokens"]["unverified"]:
            return
    pytest.fail(f"no verified answer after Redis came back: {json.dumps(answer.sluice)}")


@pytest.mark.timeout(300)
def test_the_broker_stopped_in_mid_answer_loses_no_token() -> None:
    """A stack of its own: the embedded broker cannot come back."""
    with Stack(StackOptions(verifiers=1)) as stack, httpx.Client(trust_env=False, timeout=120) as http:
        body = {
            "model": "sluice",
            "messages": [{"role": "user", "content": "Tell me a long story."}],
            "stream": True,
            "max_tokens": 40,
            "seed": 3,
            "sluice": {"gamma": 0.0, "deadline": 2},
        }
        tokens, stopped = 0, False
        summary: dict[str, Any] = {}
        with http.stream("POST", f"{stack.url}/v1/chat/completions", json=body) as response:
            for line in response.iter_lines():
                if not line.startswith("data: {"):
                    continue
                extra = json.loads(line[6:]).get("sluice") or {}
                if isinstance(extra.get("tokens"), list):
                    tokens += len(extra["tokens"])
                    if not stopped:
                        stack.stop_broker()
                        stopped = True
                elif extra:
                    summary = extra
        assert stopped
        assert tokens == summary["tokens"]["total"]
        assert summary["tokens"]["unverified"] > 0
        assert summary["degraded"]
