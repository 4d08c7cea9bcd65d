"""What an answer promises: as its request was calibrated, if every verdict came, while the measured damage stays put."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.edge_worker.answer import AnswerRequest
from tests.http.conftest import MODEL
from tests.http.scripts import says

HELLO = [{"role": "user", "content": "hi"}]
PROMISE = "damage <= 0.06"
SHORT = "Hi"  # its tokens are skipped and accepted
LONG = "one two three four five six"  # among its tokens are unverified ones


def promise(request: AnswerRequest, chat: bool) -> str:
    return PROMISE if chat and request.gamma <= 1.0 else "none"


@pytest.mark.parametrize(
    ("text", "options", "promised"),
    [
        (SHORT, {}, PROMISE),
        (SHORT, {"extra_body": {"sluice": {"gamma": 2.0}}}, "none"),
        (SHORT, {"stop": ["xyz"]}, "none"),
        (LONG, {}, "none"),
    ],
    ids=["inside", "outside", "stop sequence", "unverified tokens"],
)
async def test_an_answer_carries_its_guarantee(
    api: Any, tokenizer: Any, text: str, options: dict[str, Any], promised: str
) -> None:
    client = await api(says(tokenizer, text), promise=promise)
    answer = await client.chat.completions.create(model=MODEL, messages=HELLO, **options)
    assert answer.sluice["guarantee"] == promised
    assert answer.sluice["guarantee_reason"] is None
    assert bool(answer.sluice["tokens"]["unverified"]) == (text == LONG)


async def test_a_raw_prompt_has_no_template_and_a_stream_says_so_at_its_end(api: Any, tokenizer: Any) -> None:
    client = await api(says(tokenizer, SHORT), promise=promise)
    raw = await client.completions.create(model=MODEL, prompt="hi")
    assert raw.sluice["guarantee"] == "none"
    stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].sluice["guarantee"] == PROMISE


class Drifted:
    """A watch that has seen too much damage."""

    withdrawn = "drift: measured damage 0.2 above 0.06"

    def admit(self, request: AnswerRequest, promised: str) -> AnswerRequest:
        return replace(request, gamma=0.25, watched=promised == PROMISE)


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_says_why_its_promise_is_withdrawn(api: Any, tokenizer: Any, stream: bool) -> None:
    answerer = says(tokenizer, SHORT)
    client = await api(answerer, promise=promise, watch=Drifted())
    answer = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=stream, seed=3)
    told = [chunk async for chunk in answer][-1].sluice if stream else answer.sluice
    assert told["guarantee"] == "none"
    assert told["guarantee_reason"] == Drifted.withdrawn
    asked = answerer.requests[0]
    assert told["gamma"] == asked.gamma == 0.25
    assert asked.watched
    assert asked.audit_seed not in (None, 3), "a client that always sends the same seed must not decide what is audited"
