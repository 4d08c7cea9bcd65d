"""`sluice loadgen`'s client against the real HTTP API: answers, refusals, breaks, and workers that are not there."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from services.edge_worker.answer import AnswerRequest, BusyError
from services.edge_worker.fake_answerer import FakeAnswerer, Script
from services.edge_worker.http.api_keys import ApiKeys
from services.edge_worker.http.app import create_app
from services.loadgen.answer import Answer, Outcome
from services.loadgen.arrivals import Arrival
from services.loadgen.drive import Drive
from services.loadgen.sender import HttpSender, LoadError
from tests.http.conftest import CONTEXT, END, MODEL, Host, Stage
from tests.http.scripts import CYCLE, tokens

TEXT = "one two three\u0085four five\u2028six seven eight nine ten"  # with what only Unicode calls a line break
NOWHERE = "http://127.0.0.1:1"


async def load(sender: HttpSender, requests: int, clients: int = 2) -> list[Answer]:
    arrivals = [Arrival(0.0, n % clients) for n in range(requests)]
    drive = Drive(arrivals, sender, duration=0.01, drain_seconds=30.0)
    assert await drive.run(asyncio.Event())
    return drive.answers


async def test_answers_are_counted_as_they_stream_and_refusals_apart(
    serve: Host, stage: Stage, shared_app: FastAPI, tokenizer: Any
) -> None:
    """Every second request finds no room."""
    script, asked = tokens(tokenizer, TEXT), itertools.count()

    def play(_: AnswerRequest) -> Script:
        if next(asked) % 2:
            raise BusyError("all 4 sessions of this worker are in use", 1.0)
        return script

    stage.actor = FakeAnswerer(play)
    body = {"max_tokens": 33, "temperature": 0.5}
    async with HttpSender([await serve(shared_app, lifespan="off") + "/v1/"], ["first", "second"], body) as sender:
        answers = await load(sender, 10)
    complete = [a for a in answers if a.outcome is Outcome.COMPLETE]
    refused = [a for a in answers if a.outcome is Outcome.REFUSED]
    assert (len(complete), len(refused)) == (5, 5)
    assert all("in use" in a.error for a in refused)
    expected = Counter(CYCLE[n % len(CYCLE)].value for n in range(len(script)))
    for answer in complete:
        assert answer.decisions == expected
        assert len(answer.token_at) == len(script)
        assert answer.first_token_seconds is not None
    assert {request.max_tokens for request in stage.actor.requests} == {33}
    assert all(request.follows is not None for request in stage.actor.requests), "answers follow the fleet's policy"


async def test_an_answer_that_breaks_off_and_one_that_cannot_begin_have_failed(
    serve: Host, stage: Stage, shared_app: FastAPI, tokenizer: Any
) -> None:
    stage.actor = FakeAnswerer(lambda _: [*tokens(tokenizer, TEXT, end=False), RuntimeError("inside")])
    url = await serve(shared_app, lifespan="off")
    async with HttpSender([url], ["hello"], {"max_tokens": 8}) as sender:
        after_some, *_ = await load(sender, 1)
    async with HttpSender([url], ["hello"], {"max_tokens": -1}) as sender:
        never, *_ = await load(sender, 1)
    assert after_some.outcome is never.outcome is Outcome.FAILED
    assert len(after_some.token_at) > 0
    assert "broke off" in after_some.error
    assert "max_tokens" in never.error


async def test_clients_are_spread_over_the_workers_and_one_that_goes_away_is_told(
    serve: Host, stage: Stage, shared_app: FastAPI, tokenizer: Any
) -> None:
    stage.actor = FakeAnswerer(lambda _: tokens(tokenizer, TEXT))
    urls = [await serve(shared_app, lifespan="off") for _ in range(2)]
    async with HttpSender(urls, ["hello"], {}) as sender:
        await serve.stop(1)
        answers = await load(sender, 9, clients=3)
    for answer in answers:
        assert answer.outcome is (Outcome.FAILED if answer.client == 1 else Outcome.COMPLETE)
        assert ("connection broke" in answer.error) == (answer.client == 1)


@pytest.mark.parametrize(("url", "says"), [(NOWHERE, "no edge worker answers"), ("localhost:8000", "http://")])
async def test_a_load_on_nobody_does_not_begin(url: str, says: str) -> None:
    with pytest.raises(LoadError, match=says):
        async with HttpSender([url], ["hello"], {}):
            pass


async def test_wrong_keys_are_told_before_the_load(serve: Host, tokenizer: Any) -> None:
    locked = create_app(
        FakeAnswerer(lambda _: []),
        tokenizer=tokenizer,
        model_name=MODEL,
        context_tokens=CONTEXT,
        end_ids=[END],
        api_keys=ApiKeys([SecretStr("right")]),
    )
    with pytest.raises(LoadError, match="API key"):
        async with HttpSender([await serve(locked)], ["hello"], {}, api_key="wrong"):
            pass
