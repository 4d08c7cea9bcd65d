"""`sluice bench acceptance`: how often the target would keep what the draft writes, on the target's own text."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.progress import Progress, stderr_console

if TYPE_CHECKING:
    import torch

    from services.common.lm.engine import CausalEngine

ROWS = 32


def command(
    draft: Annotated[str, typer.Option(help="Small model, as shipped.")] = "smollm2-135m-draft",
    target: Annotated[str, typer.Option(help="Large model.")] = "smollm2-135m",
    prompts: Annotated[Path | None, typer.Option(help="Prompts, as for `single`; else 100 of the held-out split.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Prompts that are used.")] = 100,
    max_tokens: Annotated[int, typer.Option(min=8, help="Longest answer.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the target's text and of the held-out prompts.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Mean of sum min(x, y) over answer tokens that the target wrote at temperature 1, without top-p or top-k."""
    from services.cli.bench import prompts as files
    from services.common.lm import loading
    from services.common.lm.engine import CausalEngine
    from services.common.settings import usable_cores
    from services.distill import corpus
    from services.distill.prompts import prompts as made

    texts = (files.read(prompts) if prompts else list(islice(made(seed, "held-out"), limit)))[:limit]
    with Progress(stderr_console()) as progress:
        progress("loading the models")
        large = loading.load(target, dtype="bfloat16", weights="bf16", threads=usable_cores())
        small = loading.load(draft, role="draft")
        loading.check_pair(small, large)
        questions = [corpus.chat_ids(large.tokenizer, text) for text in texts]
        capacity = max(map(len, questions)) + max_tokens + 1
        engine = CausalEngine(large.model, slots=min(ROWS, len(questions)), capacity_tokens=capacity)
        progress(f"the target answers {len(questions)} prompts")
        samples = list(corpus.write(engine, questions, end_ids=set(large.end_ids), max_new_tokens=max_tokens, seed=seed))
        own = CausalEngine(small.model, slots=1, capacity_tokens=capacity)
        width = min(small.vocabulary, large.vocabulary)
        total, tokens = 0.0, 0
        for number, sample in enumerate(samples, 1):
            progress(f"measuring answer {number} of {len(samples)}")
            places = range(sample.prompt_tokens - 1, len(sample.ids) - 1)
            rows = [_law(e, sample.ids[:-1].tolist(), places, width) for e in (own, engine)]
            total += float(rows[0].minimum(rows[1]).sum())
            tokens += len(places)
    result = {
        "acceptance": round(total / tokens, 4),
        "tokens": tokens,
        "prompts": len(texts),
        "draft": draft,
        "target": target,
        "weights": {"draft": small.weights, "target": large.weights},
    }
    typer.echo(
        json.dumps(result) if as_json else f"mean acceptance {result['acceptance']} over {tokens} tokens ({small.weights})"
    )


def _law(engine: CausalEngine, ids: list[int], places: range, width: int) -> torch.Tensor:
    """Probabilities `[places, width]` after the ids up to each place."""
    states = engine.hidden([0], [0], [ids])[0]
    return engine.logits(states[places.start : places.stop])[:, :width].softmax(dim=-1)
