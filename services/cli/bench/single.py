"""`sluice bench single`: one client, one pair of models, everything on this machine through the broker and Redis."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from services.cli.errors import CommandError
from services.cli.progress import Progress, stderr_console


def command(
    draft: Annotated[str, typer.Option(help="Small model: preset side, Hugging Face id, folder or GGUF file.")],
    target: Annotated[str, typer.Option(help="Large model: preset side, Hugging Face id, folder or GGUF file.")],
    prompts: Annotated[Path, typer.Option(help="JSON lines with a field 'prompt', or one prompt a line.")],
    limit: Annotated[int, typer.Option(min=1, help="Prompts that are timed; as many more find the thresholds.")] = 8,
    max_tokens: Annotated[int, typer.Option(min=8, help="Longest answer.")] = 64,
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0)] = 1.0,
    k: Annotated[int, typer.Option(min=1, help="Most candidates of one upload, opportunistic.")] = 3,
    lossless_k: Annotated[int, typer.Option(min=1, help="Most uncertain tokens of one upload, lossless.")] = 4,
    risk: Annotated[float, typer.Option(min=0.01, max=1.0, help="Upload at this estimated chance of a refusal.")] = 0.7,
    ahead: Annotated[
        bool, typer.Option(help="Draft ahead while a round is out (both models share this machine's cores).")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of each process; all usable cores if not given.")
    ] = None,
    greedy_prompts: Annotated[
        int, typer.Option(min=0, help="Prompts of the check that lossless text is the target's own.")
    ] = 4,
    seed: Annotated[int, typer.Option(min=0)] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Tokens per second of SLM only, LLM only, transformers' assisted generation, lossless and opportunistic, interleaved."""
    from services.cli.bench import prompts as files
    from services.cli.bench.measure import Measure, Plan
    from services.common.settings import usable_cores

    texts = files.read(prompts)
    plan = Plan(
        draft=draft,
        target=target,
        timed=texts[:limit],
        searched=texts[limit : 2 * limit] or texts[:limit],
        greedy=texts[:greedy_prompts],
        max_tokens=max_tokens,
        temperature=temperature,
        k=k,
        lossless_k=lossless_k,
        risk=risk,
        ahead=ahead,
        threads=threads or usable_cores(),
        seed=seed,
    )
    if temperature == 0.0:
        raise CommandError(
            "opportunistic figures stand at a measured damage, which greedy text has no use for: temperature above 0"
        )
    console = stderr_console()
    with Progress(console) as progress:
        result = asyncio.run(Measure(plan, progress).run())
        progress.clear()
    typer.echo(json.dumps(result) if as_json else json.dumps(result, indent=2))
