"""`sluice distill`: make a draft model for a target, as the one in the package was made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from services.cli.errors import CommandError
from services.cli.progress import stderr_console


def command(
    output: Annotated[Path, typer.Argument(help="Folder for the draft (config.json, weights.safetensors).")],
    target: Annotated[
        str, typer.Option(help="Model to learn from: preset side, Hugging Face id, folder, GGUF file.")
    ] = "smollm2-135m",
    work: Annotated[Path, typer.Option(help="Folder for the corpus and checkpoints; what is there is used again.")] = Path(
        "distill-work"
    ),
    layers: Annotated[
        int, typer.Option(min=1, help="Layers of the target that the draft keeps, chosen by greedy removal.")
    ] = 16,
    keep: Annotated[str, typer.Option(help="Layers to keep, for example 0,1,2,28,29, instead of choosing them.")] = "",
    start: Annotated[Path | None, typer.Option(help="Refine this draft (its layers, four bits from the first step).")] = None,
    answer_tokens: Annotated[int, typer.Option(min=1000, help="Tokens of the target's own text to learn from.")] = 300_000,
    epochs: Annotated[int | None, typer.Option(min=1, help="Times that each token is seen (2; with --start 1).")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=1e-6, max=1e-1, help="Peak learning rate of AdamW (6e-4; with --start 3e-4).")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=1, help="Of the corpus and the order of training; another seed writes another text.")
    ] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all usable cores if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was measured as one JSON object.")] = False,
) -> None:
    """Write a corpus with the target, prune it, train what is left, measure and save it. Resumes its corpus."""
    import torch

    from services.common.lm import loading
    from services.common.settings import usable_cores
    from services.distill import net
    from services.distill.run import Plan, distill
    from services.distill.train import REFINE, Recipe

    console = stderr_console()
    try:
        kept = tuple(sorted({int(i) for i in keep.split(",") if i.strip()}))
    except ValueError:
        raise CommandError(f"--keep wants layer numbers with commas between them, not {keep!r}") from None
    loaded = loading.load(target, dtype="bfloat16", weights="bf16", threads=threads or usable_cores())
    every = len(net.decoder(loaded.model).layers)
    if (kept and kept[-1] >= every) or layers > every:
        raise CommandError(f"{target} has layers 0 to {every - 1}: choose among these")
    recipe = Recipe() if start is None else REFINE
    plan = Plan(
        output=output,
        work=work,
        layers=layers,
        keep=kept,
        answer_tokens=answer_tokens,
        recipe=replace(recipe, seed=seed, epochs=epochs or recipe.epochs, learning_rate=learning_rate or recipe.learning_rate),
        start=start,
    )
    from services.common.lm.presets import MODELS

    reference = MODELS.get(target, target)
    meta = distill(
        loaded.model,
        loaded.tokenizer,
        reference=reference,
        end_ids=loaded.end_ids,
        plan=plan,
        report=lambda line: console.print(line, markup=False, highlight=False),
    )
    size = sum(f.stat().st_size for f in output.iterdir())
    if as_json:
        typer.echo(json.dumps({**meta, "bytes": size, "torch": torch.__version__}))
    else:
        typer.echo(f"{output}: {size / 1e6:.1f} MB, mean acceptance {meta['acceptance']}")
