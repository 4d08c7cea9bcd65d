"""What an answer promises: as its request was calibrated, and only while every verdict came."""

from __future__ import annotations

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
    assert bool(answer.sluice["tokens"]["unverified"]) == (text == LONG)


async def test_a_raw_prompt_has_no_template_and_a_stream_says_so_at_its_end(api: Any, tokenizer: Any) -> None:
    client = await api(says(tokenizer, SHORT), promise=promise)
    raw = await client.completions.create(model=MODEL, prompt="hi")
    assert raw.sluice["guarantee"] == "none"
    stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].sluice["guarantee"] == PROMISE
