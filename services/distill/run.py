"""`sluice distill`: from a target to a shipped draft folder, in four resumable steps: write, prune, train, measure."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from services.common.lm.draft_folder import load_draft, read_note, save_draft, shared_of
from services.common.lm.engine import CausalEngine
from services.distill import corpus, prune
from services.distill.batches import collate
from services.distill.train import Recipe, evaluate, train


@dataclass(frozen=True)
class Plan:
    """What to make. The defaults made the draft in the package.

    ``layers``: how many of the target's layers the draft keeps, chosen by greedy removal, unless ``keep`` names them.
    ``start``: a draft to go on from, with its layers.
    ``answer_tokens``: the target's own tokens to learn from.
    """

    output: Path
    work: Path
    layers: int = 16
    keep: tuple[int, ...] = ()
    start: Path | None = None
    answer_tokens: int = 300_000
    max_new_tokens: int = 200
    slots: int = 128
    recipe: Recipe = field(default_factory=Recipe)


Report = Callable[[str], None]


def distill(
    target: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    reference: str,
    end_ids: frozenset[int],
    plan: Plan,
    report: Report,
) -> dict[str, object]:
    """Make the draft; ``target`` in bfloat16. Returns what is also written into the draft's config."""
    started = time.monotonic()
    engine = CausalEngine(target, slots=plan.slots, capacity_tokens=plan.max_new_tokens + 184)
    samples = corpus.build(
        engine,
        tokenizer,
        plan.work,
        answer_tokens=plan.answer_tokens,
        max_new_tokens=plan.max_new_tokens,
        end_ids=set(end_ids),
        seed=plan.recipe.seed,
        on_progress=_Counter(report),
    )
    held_out = corpus.held_out(
        engine,
        tokenizer,
        plan.work / "held-out.pt",
        max_new_tokens=plan.max_new_tokens,
        end_ids=set(end_ids),
        seed=plan.recipe.seed,
    )
    del engine
    report(f"corpus: {sum(s.answer_tokens for s in samples)} tokens in {len(samples)} answers")
    keep, start = list(plan.keep), None
    history: list[object] = []
    if plan.start is not None:
        note, _ = read_note(plan.start)
        start = load_draft(plan.start, torch.float32, shared_of(target))
        keep, history = note.kept_layers, [*note.meta.get("history", []), {**note.meta, "history": None}]
    elif not keep:
        probe = collate([s for s in samples if s.answer_tokens >= 16][:12])
        keep = prune.greedy(target, probe, plan.layers, lambda i, a: report(f"without layer {i}: acceptance {a:.3f}"))
    report(f"layers kept: {keep}")
    student = train(target, keep, samples, plan.recipe, _progress(report, started, plan.work, reference, keep), start)
    measured = evaluate(student, held_out)
    meta: dict[str, object] = {
        "acceptance": round(measured, 4),
        "acceptance_of": "E[sum min(x, y)], temperature 1, target's own answers to 100 held-out prompts, as shipped",
        "acceptance_tokens": sum(s.answer_tokens for s in held_out),
        "answer_tokens": sum(s.answer_tokens for s in samples),
        "recipe": asdict(plan.recipe),
        "seconds": round(time.monotonic() - started),
        "torch": torch.__version__,
        "history": history,
    }
    save_draft(plan.output, student, target=reference, kept_layers=keep, meta=meta)
    report(json.dumps(meta))
    return meta


class _Counter:
    """Tokens written so far, reported every ten seconds."""

    def __init__(self, report: Report) -> None:
        self._report, self._tokens, self._started = report, 0, time.monotonic()
        self._last = self._started

    def __call__(self, tokens: int) -> None:
        self._tokens += tokens
        now = time.monotonic()
        if now - self._last > 10:
            self._last = now
            self._report(f"wrote {self._tokens} tokens, {self._tokens / (now - self._started):.0f} a second")


def _progress(
    report: Report, started: float, work: Path, reference: str, keep: list[int]
) -> Callable[[int, int, float, PreTrainedModel], None]:
    recent: list[float] = []

    def on_step(step: int, steps: int, accepted: float, student: PreTrainedModel) -> None:
        recent.append(accepted)
        if step % 10 == 0 or step == steps:
            mean = sum(recent[-20:]) / len(recent[-20:])
            report(f"step {step}/{steps} acceptance {mean:.3f} after {time.monotonic() - started:.0f} s")
        if step % 50 == 0 and step < steps:
            save_draft(work / "checkpoint", student, target=reference, kept_layers=keep, meta={"step": step})

    return on_step
