"""What the chart's own test asks of `sluice chat`, against the real HTTP API."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from typer.testing import CliRunner

from services.cli.errors import CommandError
from services.cli.main import app
from services.edge_worker.answer import AnswerStats, Decision
from services.edge_worker.fake_answerer import FakeAnswerer
from services.edge_worker.http.api_keys import ApiKeys
from services.edge_worker.http.app import create_app
from tests.http.conftest import CONTEXT, END, MODEL, Host, Stage
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


async def test_an_api_key_may_lie_in_a_file(serve: Host, stage: Stage, tokenizer: Any, tmp_path: Path) -> None:
    """Where it is neither on a command line nor in the environment."""
    stage.actor = FakeAnswerer(lambda _: tokens(tokenizer, "one"))
    closed = create_app(
        stage, tokenizer=tokenizer, model_name=MODEL, context_tokens=CONTEXT, end_ids=[END], api_keys=ApiKeys([SecretStr("s3")])
    )
    command = ["chat", "--url", await serve(closed, lifespan="off"), "-m", "hello", "--json", "--api-key-file"]
    (tmp_path / "key").write_text("s3\n")
    result = await asyncio.to_thread(CliRunner().invoke, app, [*command, str(tmp_path / "key")])
    assert (result.exit_code, '"text"' in result.stdout) == (0, True)
    result = await asyncio.to_thread(CliRunner().invoke, app, [*command, str(tmp_path / "none")])
    assert isinstance(result.exception, CommandError)
