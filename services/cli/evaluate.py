"""`sluice evaluate`: the methods side by side on the same prompts: quality, uploads, speed, and modelled time and energy."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.errors import CommandError
from services.cli.progress import stderr_console
from services.common.lm import presets

if TYPE_CHECKING:
    from services.common.calibration.predictor import Predictor
    from services.evaluate.crossover import Crossover
    from services.evaluate.methods import Calibrated, Knobs
    from services.evaluate.report import Report
    from services.evaluate.run import Outcome, Plan
    from services.evaluate.tasks import Task
    from services.pair.models import Loading

METHODS = "llm,remote-llm,slm,hlm,rand-hlm,u-hlm,ui-hlm,lossless,fixed-k"
TASKS = 200
WIDTH = 140
PAPERS_RATE = 0.386  # the upload rate of arXiv 2508.12590


def command(
    draft: Annotated[str, typer.Option(help="Small model; the default preset's if not given.")] = "",
    target: Annotated[str, typer.Option(help="Large model; the default preset's if not given.")] = "",
    prompts: Annotated[
        Path | None,
        typer.Option(help="JSON lines with 'prompt' and, if there is one, 'answer' or 'test'; if not given, tasks are made."),
    ] = None,
    methods: Annotated[
        str,
        typer.Option(
            help="Comma-separated, as in hlm, u-hlm:entropy@0.4 or ui-hlm:binding@0.3/0.7 (signal, importance, threshold, "
            "quantile: docs/evaluation.md). Also: i-hlm, calibrated, answer-level."
        ),
    ] = METHODS,
    limit: Annotated[int | None, typer.Option(min=1, help=f"Prompts that are used; all, or {TASKS} made ones.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 128,
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="0: greedy, as texts are compared.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of made tasks, answers, link draws and intervals.")] = 1,
    signal: Annotated[str, typer.Option(help="Uncertainty of u-hlm, ui-hlm and lossless.")] = "temperature_perturbation",
    tau: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Its threshold; a default if not given (docs/evaluation.md).")
    ] = None,
    importance: Annotated[str, typer.Option(help="Importance of ui-hlm: received or binding.")] = "received",
    importance_layer: Annotated[int | None, typer.Option(min=0, help="Layer it is read from; the middle one.")] = None,
    k: Annotated[int, typer.Option(min=1, max=64, help="Most candidates of one upload, where the gate decides.")] = 4,
    length: Annotated[int, typer.Option(min=1, max=64, help="Drafts of fixed-k.")] = 4,
    calibration: Annotated[
        Path | None, typer.Option(help="File of `sluice calibrate`, for calibrated and answer-level.")
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Which bound of that file; the only one if not given.")] = None,
    link: Annotated[str, typer.Option(help="Link of the model: a name or FILE.toml.")] = "cell",
    device_profile: Annotated[str, typer.Option(help="Device of the model: a name or FILE.toml.")] = "phone",
    server_profile: Annotated[str, typer.Option(help="Server of the model: a name or FILE.toml.")] = "gpu",
    report: Annotated[Path | None, typer.Option(help="Also write this Markdown page, its plots and JSON beside it.")] = None,
    at_rate: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Upload rate at which the report compares methods.")
    ] = PAPERS_RATE,
    crossover: Annotated[
        Path | None, typer.Option(help="Also sweep link and load over the answers: this PNG, a page and JSON beside it.")
    ] = None,
    work: Annotated[Path, typer.Option(help="Folder of the record; an interrupted run goes on from it.")] = Path(
        "evaluate-work"
    ),
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all usable cores if not given.")] = None,
    parallel: Annotated[int, typer.Option(min=1, max=256, help="Answers written at once; above 1 no time is measured.")] = 1,
    draft_weights: Annotated[str, typer.Option(help="Number format of the small model, as it is served.")] = "auto",
    target_weights: Annotated[str, typer.Option(help="Of the large one; name it to go on with a record later.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Write every prompt with every method, and compare; modelled figures never share a column with measured ones."""
    _can_plot(report, crossover)
    from services.common.energy import profiles
    from services.common.sampling import Sampling
    from services.common.settings import usable_cores
    from services.edge_worker.settings import EdgeSettings
    from services.evaluate import methods as known
    from services.evaluate.link import Link
    from services.evaluate.modelled import World
    from services.evaluate.run import Plan
    from services.evaluate.write import Asked
    from services.pair.models import Loading

    try:
        chosen = known.scored(known.parse(methods), _predictor(calibration))
        knobs = _knobs(signal, tau, importance, importance_layer, k, length, temperature == 0.0)
        calibrated = _calibrated(calibration, alpha, [m.value for m in chosen if m.name in known.FROM_FILE])
        world = World(
            profiles.load(Link, link),
            profiles.load(profiles.Device, device_profile),
            profiles.load(profiles.Server, server_profile),
        )
        plan = Plan(
            work=work,
            methods=chosen,
            tasks=_tasks(prompts, limit, seed),
            asked=Asked(Sampling(temperature=temperature), max_tokens, seed),
            knobs=knobs,
            world=world,
            calibrated=calibrated,
            threads=threads or usable_cores(),
        )
        how = Loading(
            max_tokens=max_tokens,
            entries=EdgeSettings.model_fields["x_entries"].default,
            threads=plan.threads,
            layer=importance_layer,
            parallel=parallel,
            draft_weights=draft_weights,
            target_weights=target_weights,
        )
        outcome = _run(plan, draft, target, calibration, how)
    except ValueError as error:  # of prompts, methods, profiles, records and files: one line each
        raise CommandError(str(error)) from error
    except KeyboardInterrupt:
        raise CommandError(f"interrupted; the same command goes on from {work}") from None
    _show(_written(outcome, report, crossover, at_rate), as_json)


def _can_plot(report: Path | None, crossover: Path | None) -> None:
    if (report or crossover) is not None and importlib.util.find_spec("matplotlib") is None:
        raise CommandError("the plots of --report and --crossover need matplotlib: pip install 'sluice[evaluate]'")
    if crossover is not None and crossover.suffix != ".png":
        raise CommandError(f"--crossover {crossover}: name a file that ends in .png")


def _tasks(prompts: Path | None, limit: int | None, seed: int) -> list[Task]:
    from services.evaluate import tasks

    return tasks.generated(limit or TASKS, seed) if prompts is None else tasks.read(prompts)[:limit]


def _knobs(signal: str, tau: float | None, importance: str, layer: int | None, k: int, length: int, greedy: bool) -> Knobs:
    from services.edge_worker.settings import EdgeSettings
    from services.edge_worker.signals import Importance, Signal
    from services.evaluate.methods import Knobs, default_tau

    if signal not in list(Signal):
        raise CommandError(f"unknown --signal {signal!r}: choose one of {', '.join(Signal)}")
    if importance not in (Importance.RECEIVED, Importance.BINDING):
        raise CommandError(f"unknown --importance {importance!r}: choose received or binding")
    fields = EdgeSettings.model_fields
    return Knobs(
        signal=Signal(signal),
        tau=default_tau(Signal(signal), greedy=greedy) if tau is None else tau,
        importance=Importance(importance),
        quantile=fields["importance_quantile"].default,
        window=fields["importance_window"].default,
        layer=layer,
        k=k,
        length=length,
        span_tokens=fields["span_tokens"].default,
        wait_tokens=fields["wait_tokens"].default,
        risk=fields["risk"].default,
    )


def _predictor(path: Path | None) -> Predictor | None:
    from services.common.calibration import files

    return None if path is None else files.load(path).predictor


def _calibrated(path: Path | None, alpha: float | None, wanted: list[float | None]) -> dict[float | None, Calibrated]:
    """By the alpha that methods name; ``None``: ``--alpha``, or the only one of the file."""
    from services.common.calibration import files
    from services.common.calibration.predictor import NAME
    from services.edge_worker.signals import Importance, Signal
    from services.evaluate.methods import Calibrated

    if not wanted:
        return {}
    if path is None:
        raise CommandError("each of calibrated and answer-level needs --calibration FILE (`sluice calibrate` makes one)")
    found = files.load(path)
    if alpha is None and None in wanted and len(found.thresholds) != 1:
        known = ", ".join(f"{t.alpha:g}" for t in found.thresholds)
        raise CommandError(f"--alpha: choose one of those in {path}: {known}")
    policy = found.policy
    one = None if policy.signal == NAME else Signal(policy.signal)

    def at(a: float) -> Calibrated:
        predictor = found.predictor if one is None else None
        limits = (policy.k, policy.span_tokens, policy.wait_tokens, policy.risk)
        return Calibrated(a, one, predictor, found.tau(a), Importance(policy.importance), *limits, policy.answer_level)

    default = alpha if alpha is not None else found.thresholds[0].alpha
    return {value: at(default if value is None else value) for value in wanted}


def _run(plan: Plan, draft: str, target: str, calibration: Path | None, how: Loading) -> Outcome:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    from services.common.calibration import files
    from services.evaluate.run import evaluate
    from services.pair import models

    preset = presets.preset(presets.DEFAULT)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr_console()) as bars:
        loading = bars.add_task("loading the models", total=None)
        pair = models.load(
            draft or preset.draft,
            target or preset.target,
            [task.prompt for task in plan.tasks],
            how,
        )
        bars.remove_task(loading)
        if calibration is not None:
            models.check(pair, files.load(calibration))
        bar: dict[str, TaskID] = {}

        def tell(name: str, done: int, total: int) -> None:
            if name not in bar:
                bar[name] = bars.add_task(name, total=total)
            bars.update(bar[name], completed=done)

        try:
            return asyncio.run(evaluate(pair, plan, tell))
        finally:
            pair.close()


def _written(outcome: Outcome, page: Path | None, crossover: Path | None, at_rate: float) -> Report:
    """What the answers say, and the files that were asked for."""
    from services.evaluate import crossover_report, curves, report

    seed = outcome.plan.asked.seed
    found = report.Report(outcome, curves.comparisons(outcome.rows, seed=seed, at_rate=at_rate))
    try:
        if crossover is not None:
            swept = _swept(outcome, at_rate)
            found = replace(found, crossover=swept)
            crossover_report.write(swept, outcome.plan.world, crossover)
        if page is not None:
            report.write(found, page)
    except OSError as error:
        raise CommandError(f"{error.filename} cannot be written: {error.strerror}") from error
    return found


def _swept(outcome: Outcome, at_rate: float) -> Crossover:
    from rich.progress import Progress

    from services.evaluate.crossover import crossover
    from services.evaluate.crossover_report import entries

    with Progress(console=stderr_console()) as bars:
        bar = bars.add_task("links and loads", total=None)
        return crossover(
            entries(outcome, at_rate),
            outcome.plan.world,
            seed=outcome.plan.asked.seed,
            tell=lambda done, total: bars.update(bar, completed=done, total=total),
        )


def _show(found: Report, as_json: bool) -> None:
    from rich.console import Console

    from services.evaluate.report import tables

    if as_json:
        typer.echo(json.dumps(found.to_json()))
    else:
        console = Console()
        wide = console if console.is_terminal else Console(width=WIDTH)  # a file has no width of its own
        wide.print(*tables(found.outcome), sep="\n")
