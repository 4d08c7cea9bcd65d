"""What of the fleet's policy an answer may follow: nothing that its request or its promise holds fast."""

from __future__ import annotations

from typing import Any

import pytest

from services.edge_worker.answer import AnswerRequest, Follows
from services.edge_worker.http.bounds import Bounds
from tests.http.conftest import MODEL
from tests.http.scripts import says

HELLO = [{"role": "user", "content": "hi"}]
BOUNDS = Bounds(k_max=6, gamma_max=3.0)


class Bounded:
    """A watch that allows no more than this gamma."""

    withdrawn = ""
    gamma = 0.75

    def admit(self, request: AnswerRequest, promised: str) -> AnswerRequest:
        return request


@pytest.mark.parametrize(
    ("options", "settings", "expected"),
    [
        ({}, {}, Follows(6, 3.0)),
        ({"seed": 3}, {}, None),
        ({"extra_body": {"sluice": {"k": 0}}}, {}, None),
        ({"extra_body": {"sluice": {"k": 2}}}, {}, Follows(None, 3.0)),
        ({"extra_body": {"sluice": {"gamma": 0.5}}}, {}, Follows(6, None)),
        ({}, {"watch": Bounded()}, Follows(6, 0.75)),
        ({}, {"promise": lambda request, chat: "damage <= 0.06"}, Follows(None, 1.0)),
    ],
    ids=["free", "seed", "stays local", "own k", "own gamma", "drift bound", "promised"],
)
async def test_an_answer_follows_what_nothing_holds_fast(
    api: Any, tokenizer: Any, options: dict[str, Any], settings: dict[str, Any], expected: Follows | None
) -> None:
    answerer = says(tokenizer, "Hi")
    client = await api(answerer, bounds=BOUNDS, **settings)
    await client.chat.completions.create(model=MODEL, messages=HELLO, **options)
    assert answerer.requests[0].follows == expected
