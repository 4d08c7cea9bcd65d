"""`sluice loop`: the policy on real processes with a real Prometheus, under a load five times as large for a while."""

from __future__ import annotations

import importlib.util
import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.errors import CommandError
from services.cli.progress import Progress, stderr_console
from services.cli.up import Stopped, stop_on_signals

if TYPE_CHECKING:
    from rich.console import Console

    from services.cli.loop.plan import Fleet, Times
    from services.cli.loop.plot import Run

JSON, PICTURE, DECISIONS = "loop.json", "loop.png", "decisions.jsonl"


def command(
    fleet: Annotated[str, typer.Option(help="synthetic: many slow devices, no model; models: the default pair.")] = "synthetic",
    rate: Annotated[float | None, typer.Option(min=0.01, help="Answers a second before the step; none: the fleet's.")] = None,
    utilisation: Annotated[float | None, typer.Option(min=0.05, max=1.0, help="Budget of the verifiers' busy share.")] = None,
    before: Annotated[float, typer.Option(min=5.0, help="Seconds before the load is five times as large.")] = 90.0,
    step: Annotated[float, typer.Option(min=5.0, help="Seconds of that.")] = 150.0,
    after: Annotated[float, typer.Option(min=5.0, help="Seconds at the first load again.")] = 150.0,
    away: Annotated[float, typer.Option(min=0.0, help="Then seconds without Prometheus; 0: it stays.")] = 110.0,
    back: Annotated[float, typer.Option(min=5.0, help="Seconds after it was started again.")] = 60.0,
    speed: Annotated[float, typer.Option(min=1.0, max=10.0, help="The loop's own times are divided by it.")] = 1.0,
    prometheus: Annotated[Path | None, typer.Option(help="Its program; none: on the path, or Debian's, fetched.")] = None,
    kafka: Annotated[str | None, typer.Option(help="host:port of a Kafka broker instead of the embedded one.")] = None,
    redis: Annotated[str | None, typer.Option(help="URL of a Redis instead of the embedded one.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the load.")] = 1,
    out: Annotated[Path | None, typer.Option(help=f"Folder for {JSON}, {PICTURE} and {DECISIONS}.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Start everything, load it, show the knobs move, stop everything; status 1 where the loop did not do its work."""
    from services.cli.loop.plan import FLEETS, Times

    if out is not None and importlib.util.find_spec("matplotlib") is None:
        raise CommandError("--out needs matplotlib: pip install 'sluice[evaluate]'")
    if fleet not in FLEETS:
        raise CommandError(f"unknown fleet {fleet!r}: choose one of {', '.join(FLEETS)}")
    chosen = FLEETS[fleet]
    chosen = replace(chosen, rate=rate or chosen.rate, utilisation=utilisation or chosen.utilisation)
    times = Times(before, step, after, away, back, speed)
    console = stderr_console()
    stop_on_signals()
    try:
        run, found = _run(chosen, times, console, seed, prometheus=prometheus, kafka=kafka, redis=redis)
    except Stopped as error:
        raise CommandError("stopped; everything was shut down") from error
    if out is not None:
        _save(run, found, out)
    typer.echo(json.dumps(found) if as_json else describe(found))
    if as_json:
        console.print(describe(found), markup=False)
    if found["verdict"]["failures"] or found["leftover_processes"]:
        raise typer.Exit(1)


def _run(fleet: Fleet, times: Times, console: Console, seed: int, **where: Any) -> tuple[Run, dict[str, Any]]:
    from services.cli.loop.live import LiveView
    from services.cli.loop.play import Play
    from services.cli.loop.record import Reader
    from services.cli.loop.site import Site

    with Progress(console) as progress:
        site = Site(fleet, times, progress=progress, **where)
        with site, closing(Reader(site.prometheus.url)) as reader:
            progress("starting the load")
            with LiveView(console, fleet, times, before=progress.clear) as view:
                play = Play(site, reader, view.show)
                play.run(seed)
            run, found = play.found()
            progress("stopping everything")
    return run, {**found, "leftover_processes": len(site.nursery.leftovers())}


def _save(run: Run, found: dict[str, Any], folder: Path) -> None:
    from services.cli.loop import plot

    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / JSON).write_text(json.dumps(found) + "\n")
        lines = [json.dumps(entry) + "\n" for entry in run.decisions]
        (folder / DECISIONS).write_text("".join(lines))
        plot.save(run, folder / PICTURE, f"sluice loop, {run.fleet.name}: {run.fleet.about}")
    except OSError as error:
        raise CommandError(f"{folder} cannot be written: {error.strerror}") from error


def describe(found: dict[str, Any]) -> str:
    """The verdict for people."""
    v, load = found["verdict"], found["load"]["answers"]
    lines = [f"{'':<9}{'k':>6}{'gamma':>8}{'upload':>8}{'busy':>7}{'damage':>8}{'p95 s':>8}{'tokens/s':>10}"]
    for part, means in v["steady"].items():
        names = ("k", "gamma", "upload_rate", "utilisation", "damage", "round_trip_p95", "tokens_per_second")
        widths = (6, 8, 8, 7, 8, 8, 10)
        row = "".join(f"{'-' if means[n] is None else f'{means[n]:.3g}':>{w}}" for n, w in zip(names, widths, strict=True))
        lines.append(f"{part:<9}{row}")
    recovery, budget = v["recovery_seconds"], v["budgets"]["utilisation"]
    lines.append(
        "the step kept every budget"
        if recovery == 0.0
        else "the utilisation budget was not met again"
        if recovery is None
        else f"utilisation left its budget of {budget:g} {v['broken_after_seconds']:.0f} s after the step, rose to "
        f"{v['peak']:.2f}, and was inside it again {recovery:.0f} s after the step; overshoot after that {v['overshoot']:.1%}"
    )
    turns = v["direction_changes_per_minute"]
    damage = v["damage_max_relative_to_limit"]
    lines.append(
        f"direction changes a minute: gamma {turns['gamma']:g}, k {turns['k']:g}; largest damage "
        + ("unknown" if damage is None else f"{damage:.2f} of its limit")
    )
    gone = v.get("prometheus_away")
    if gone is not None:
        lines.append(
            f"without Prometheus: held after {gone['held_after_seconds']} s, safe setting {gone['safe']} after "
            f"{gone['safe_after_seconds']} s; started again: control after {gone['resumed_after_seconds']} s"
        )
    lines.append(f"load: {load['complete']} of {load['offered']} answers complete, {load['refused']} refused")
    if found["alerts"]:
        lines.append("alerts: " + ", ".join(f"{a['name']} ({a['at']:.0f} s)" for a in found["alerts"]))
    lines += [f"NOT SEEN: {failure}" for failure in v["failures"]]
    lines.append(f"Everything is stopped; {found['leftover_processes']} processes left.")
    return "\n".join(lines)
