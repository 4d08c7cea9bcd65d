"""`sluice bench metrics`: what metrics and traces cost an edge worker and a verifier, as shares of their processor time."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Annotated

import typer

from services.cli.progress import Progress, stderr_console


@dataclass(frozen=True)
class Plan:
    """``answers`` of ``max_tokens`` on the edge; ``blocks`` of ``sessions`` times ``rounds`` on the verifier. Each is done once
    in every way."""

    draft: str
    target: str
    answers: int
    max_tokens: int
    blocks: int
    rounds: int
    sessions: int
    threads: int


def command(
    draft: Annotated[str, typer.Option(help="Small model, as shipped.")] = "smollm2-135m-draft",
    target: Annotated[str, typer.Option(help="Large model, as shipped.")] = "smollm2-135m",
    answers: Annotated[int, typer.Option(min=2, help="Answers that the edge writes, each once in every way.")] = 60,
    max_tokens: Annotated[int, typer.Option(min=8, help="Longest answer.")] = 64,
    blocks: Annotated[int, typer.Option(min=2, help="Blocks that the verifier judges, each once in every way.")] = 60,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each session in a block.")] = 4,
    sessions: Annotated[int, typer.Option(min=1, help="Sessions at once.")] = 4,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; more than one disturb each other.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Shares of processor time, with intervals: the same work with real meters and with meters that do nothing, in turn, with
    scrapes each 5 s, the loop's probe and what is looked at each second; and once more with traces."""
    from services.cli.bench.overhead.run import measure

    plan = Plan(draft, target, answers, max_tokens, blocks, rounds, sessions, threads)
    with Progress(stderr_console()) as progress:
        result = asyncio.run(measure(plan, progress))
    typer.echo(json.dumps(result) if as_json else json.dumps(result, indent=2))
