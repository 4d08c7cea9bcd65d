"""`sluice simulate`: the policy's own controller on a simulated fleet."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.errors import CommandError
from services.cli.progress import stderr_console

if TYPE_CHECKING:
    from services.simulate.report import Result

ALL = "all"


def command(
    scenario: Annotated[str, typer.Argument(help="A scenario, or all. `list` names them.")],
    profile: Annotated[str, typer.Option(help="Recorded pair: a name that comes along, or FILE.json.")] = "smollm2-135m",
    seed: Annotated[int, typer.Option(min=0, help="Of text, links and load.")] = 1,
    compare: Annotated[
        bool, typer.Option("--compare/--no-compare", help="Also search the best fixed setting: most of the time.")
    ] = True,
    plots: Annotated[Path | None, typer.Option(help="Folder for a picture of the knobs of each scenario.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """How fast the controller meets its budgets again, how calm it is, what damage and what goodput it leaves."""
    if plots is not None and importlib.util.find_spec("matplotlib") is None:
        raise CommandError("--plots needs matplotlib: pip install 'sluice[evaluate]'")
    from services.simulate import plot, report, scenarios
    from services.simulate import profile as profiles

    try:
        recorded = profiles.load(profile)
    except profiles.ProfileError as error:
        raise CommandError(str(error)) from error
    known = scenarios.scenarios(recorded)
    if scenario == "list":
        typer.echo(
            json.dumps({n: s.about for n, s in known.items()}) if as_json else _list({n: s.about for n, s in known.items()})
        )
        return
    if scenario != ALL and scenario not in known:
        raise CommandError(f"unknown scenario {scenario!r}: choose one of {', '.join(known)}, or all")
    wanted = list(known.values()) if scenario == ALL else [known[scenario]]
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=stderr_console()) as bars:
        bar = bars.add_task("", total=None)

        def tell(what: str, done: int, total: int) -> None:
            bars.update(bar, description=what, completed=done, total=total)

        results = report.simulate(recorded, wanted, seed, compare=compare, tell=tell)
    if plots is not None:
        try:
            plots.mkdir(parents=True, exist_ok=True)
            for result in results:
                plot.save(result, plots / f"{result.scenario.name}.png")
        except OSError as error:
            raise CommandError(f"{plots} cannot be written: {error.strerror}") from error
    found = report.to_json(recorded, seed, results)
    typer.echo(json.dumps(found) if as_json else _table(results, found))


def _list(about: dict[str, str]) -> str:
    return "\n".join(f"{name}: {text}" for name, text in about.items())


def _table(results: list[Result], found: dict[str, Any]) -> str:
    head = f"{'scenario':<17}{'recovery s':>11}{'overshoot':>11}{'turns/min':>11}{'damage':>9}{'goodput':>9}  told infeasible"
    lines = [head]
    for result in results:
        s = result.score
        recovery = "never" if s.recovery_seconds is None else f"{s.recovery_seconds:.0f}"
        best = result.best
        ratio = f"{s.goodput / best.goodput:.3f}" if best is not None else "-"
        lines.append(
            f"{result.scenario.name:<17}{recovery:>11}{s.overshoot:>11.1%}{s.direction_changes_per_minute:>11.2f}"
            f"{s.damage_max_relative_to_limit:>9.3f}{ratio:>9}  {', '.join(s.infeasible_told) or '-'}"
        )
    whole = found["sequence"]["goodput_relative_to_best_single"]
    if whole is not None:
        lines.append(f"goodput of all compared scenarios, relative to the best single setting: {whole:.3f}")
    return "\n".join(lines)
