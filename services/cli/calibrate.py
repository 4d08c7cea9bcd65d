"""`sluice calibrate`: thresholds of the gate for a pair of models and a set of prompts, with a bound on the damage."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.calibrate import risk_control
from services.cli.bench import prompts as prompt_files
from services.cli.errors import CommandError
from services.cli.progress import stderr_console
from services.common.lm import presets

if TYPE_CHECKING:
    from services.calibrate.run import Outcome, Plan
    from services.pair.judge import Judge
    from services.pair.rows import Pair

LEAST_TOKENS = 2
DECIDE_TOKENS = 8


def command(
    prompts: Annotated[Path, typer.Option(help="JSON lines with a field 'prompt', or one prompt a line.")],
    pair: Annotated[str, typer.Option(help="Preset of both models.")] = "smollm2-135m",
    draft: Annotated[str, typer.Option(help="Small model instead of the preset's.")] = "",
    target: Annotated[str, typer.Option(help="Large model instead of the preset's.")] = "",
    alpha: Annotated[
        list[float] | None, typer.Option(help="Wanted bound of the damage; may be given several times (.03, .06, .12).")
    ] = None,
    out: Annotated[Path, typer.Option(help="The calibration, for SLUICE_EDGE_CALIBRATION.")] = Path("calibration.json"),
    report: Annotated[Path | None, typer.Option(help="Also write a page with tables and plots.")] = None,
    work: Annotated[Path, typer.Option(help="Folder of the records; an interrupted run goes on from them.")] = Path(
        "calibrate-work"
    ),
    signal: Annotated[str, typer.Option(help="Score of the gate: a signal, or calibrated.")] = "one_minus_max",
    method: Annotated[str, typer.Option(help="Whose threshold is promised: conformal or learn_then_test.")] = "conformal",
    delta: Annotated[float, typer.Option(min=1e-6, max=0.5, help="Chance that learn_then_test may fail.")] = 0.1,
    limit: Annotated[int | None, typer.Option(min=1, help="Prompts that are used; all if not given.")] = None,
    max_tokens: Annotated[int, typer.Option(min=LEAST_TOKENS, help="Limit of an answer; the promise is for this one.")] = 64,
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0)] = 1.0,
    top_p: Annotated[float, typer.Option(min=1e-9, max=1.0)] = 1.0,
    top_k: Annotated[int, typer.Option(min=0)] = 0,
    k: Annotated[int, typer.Option(min=1, max=64, help="Most candidates of one upload.")] = 4,
    answer_level: Annotated[
        bool, typer.Option("--answer-level", help="Also keep whole answers local where little damage is predicted.")
    ] = False,
    decide_tokens: Annotated[
        int | None, typer.Option(min=1, max=64, help="Drafted tokens that decide it; 8 if not given.")
    ] = None,
    grid: Annotated[int, typer.Option(min=1, max=64, help="Thresholds that are tried on each calibration prompt.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the split of the prompts and of all answers.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all usable cores if not given.")] = None,
    parallel: Annotated[int, typer.Option(min=1, max=256, help="Answers written at once, in shared passes.")] = 16,
    draft_weights: Annotated[str, typer.Option(help="Number format of the small model, as it is served.")] = "auto",
    target_weights: Annotated[str, typer.Option(help="Of the large one; name it to go on with a record later.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Write answers at each threshold of a grid, and find the threshold whose damage per answer stays within alpha."""
    alphas = tuple(sorted(set(alpha or (0.03, 0.06, 0.12))))
    if not all(0.0 < a < 1.0 for a in alphas):
        raise CommandError("--alpha must lie between 0 and 1: it bounds a share of an answer's tokens")
    if method not in ("conformal", "learn_then_test"):
        raise CommandError(f"unknown --method {method!r}: choose conformal or learn_then_test")
    if decide_tokens is not None and not answer_level:
        raise CommandError("--decide-tokens is for whole answers: add --answer-level")
    deciding = (decide_tokens or DECIDE_TOKENS) if answer_level else 0
    if deciding > max_tokens:
        raise CommandError(f"no answer of {max_tokens} tokens has the {deciding} that decide: lower --decide-tokens")
    _check_extra()
    signal = _signal(signal)
    texts = prompt_files.read(prompts)[:limit]
    from services.calibrate.run import Plan
    from services.common.calibration import files
    from services.common.sampling import Sampling
    from services.common.settings import usable_cores
    from services.edge_worker.settings import EdgeSettings
    from services.pair.models import Loading, load

    fields = EdgeSettings.model_fields
    policy = files.Policy(
        signal=signal,
        k=k,
        **{name: fields[name].default for name in ("span_tokens", "wait_tokens", "risk", "x_entries")},
    )
    plan = Plan(
        work=work,
        alphas=alphas,
        policy=policy,
        sampling=Sampling(temperature=temperature, top_p=top_p, top_k=top_k),
        max_tokens=max_tokens,
        grid=grid,
        seed=seed,
        method="conformal" if method == "conformal" else "learn_then_test",
        delta=delta,
        decide_tokens=deciding,
    )
    try:
        preset = presets.preset(pair)
        how = Loading(
            max_tokens=max_tokens,
            entries=policy.x_entries,
            threads=threads or usable_cores(),
            parallel=parallel,
            draft_weights=draft_weights,
            target_weights=target_weights,
        )
        models = partial(load, draft or preset.draft, target or preset.target, texts, how)
        outcome = _run(plan, models)
        files.save(outcome.calibration, out)
        if report is not None:
            _write_report(outcome, report)
    except ValueError as error:  # of prompts, records and files: one line each
        raise CommandError(str(error)) from error
    except KeyboardInterrupt:
        raise CommandError(f"interrupted; the same command goes on from {work}") from None
    typer.echo(json.dumps(outcome.summary()) if as_json else _text(outcome, out))


def _check_extra() -> None:
    missing = [name for name in ("sklearn", "matplotlib") if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(f"sluice calibrate needs {' and '.join(missing)}: pip install 'sluice[calibrate]'")


def _signal(name: str) -> str:
    from services.common.calibration.predictor import NAME
    from services.edge_worker.signals import Signal

    noisy = Signal.TEMPERATURE_PERTURBATION_SAMPLED  # there for comparison only
    known = list(dict.fromkeys([*(s.value for s in Signal if s is not noisy), NAME]))
    if name not in known:
        raise CommandError(f"--signal {name!r} cannot be calibrated: choose one of {', '.join(known)}")
    return name


def _run(plan: Plan, load: Callable[[], Pair[Judge]]) -> Outcome:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    from services.calibrate.run import calibrate

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr_console()) as bars:
        loading = bars.add_task("loading the models", total=None)
        models = load()
        bars.remove_task(loading)
        tasks: dict[str, TaskID] = {}

        def tell(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(f"{name} answers", total=total)
            bars.update(tasks[name], completed=done)

        try:
            return asyncio.run(calibrate(models, plan, tell))
        finally:
            models.close()


def _write_report(outcome: Outcome, path: Path) -> None:
    from services.calibrate.report import page

    try:
        path.write_text(page(outcome))
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error


def _text(outcome: Outcome, out: Path) -> str:
    found = outcome.calibration
    lines = [f"{out}: rejection = {found.line.a:.3f} u {found.line.b:+.3f}, Pearson r {found.line.r:.3f}"]
    if outcome.level is not None:
        r = "none" if outcome.level.r is None else f"{outcome.level.r:.3f}"
        lines.append(f"  whole answers: predicted and found damage of {outcome.level.answers} local ones, Pearson r {r}")
    for threshold in found.thresholds:
        tau = found.tau(threshold.alpha)
        text = "ask always" if tau is None else f"threshold {tau:.4f}, {threshold.evaluated_skip_rate or 0:.1%} skipped"
        if tau is not None and outcome.level is not None:
            text += f", {threshold.evaluated_local_rate or 0:.1%} of the answers local"
        lines.append(f"  damage <= {threshold.alpha:g}: {text}; fresh answers {threshold.evaluated_damage or 0:.4f}")
    if not found.guaranteed:
        needed = risk_control.LEAST_PROMPTS
        lines.append(f"  no guarantee: {found.prompts['calibration']} calibration prompts; it takes at least {needed}")
    return "\n".join(lines)
