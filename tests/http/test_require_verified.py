"""`sluice chat --require-verified`, which the chart's own test goes by, against the real HTTP API."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI
from typer.testing import CliRunner

from services.cli.main import app
from services.edge_worker.answer import AnswerStats, Decision
from services.edge_worker.fake_answerer import FakeAnswerer
from tests.http.conftest import Host, Stage
from tests.http.scripts import tokens


@pytest.mark.parametrize(
    ("decisions", "reason", "status"),
    [
        ([Decision.SKIPPED, Decision.ACCEPTED, Decision.CORRECTED, Decision.BONUS], "", 0),
        ([Decision.SKIPPED], "", 1),
        ([Decision.ACCEPTED, Decision.UNVERIFIED], "", 1),
        ([Decision.ACCEPTED], "deadline", 1),
    ],
)
async def test_an_answer_counts_as_verified_only_if_all_that_was_to_be_judged_was(
    serve: Host, stage: Stage, shared_app: FastAPI, tokenizer: Any, decisions: list[Decision], reason: str, status: int
) -> None:
    script = tokens(tokenizer, "one two three four five six")
    script = [replace(token, decision=decisions[n % len(decisions)]) for n, token in enumerate(script)]
    stage.actor = FakeAnswerer(lambda _: script, lambda: AnswerStats(degraded_reason=reason))
    url = await serve(shared_app, lifespan="off")
    command = ["chat", "--url", url, "-m", "hello", "--json"]
    for extra, expected in (["--require-verified"], status), ([], 0):
        result = await asyncio.to_thread(CliRunner().invoke, app, [*command, *extra])
        assert '"sluice"' in result.stdout
        assert result.exit_code == expected
