"""`sluice loadgen`: open-loop load on edge workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.errors import CommandError
from services.cli.progress import stderr_console

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from services.loadgen.arrivals import Schedule
    from services.loadgen.drive import Drive

PROMPTS = 256
SHOW_SECONDS = 0.5
SAY_SECONDS = 5.0  # between two lines where there is no terminal


@dataclass(frozen=True)
class Load:
    """What one call asks for."""

    urls: list[str]
    schedule: Schedule
    clients: int
    seed: int
    body: dict[str, Any]
    prompts: list[str]
    api_key: str
    drain_seconds: float


def command(
    urls: Annotated[list[str] | None, typer.Argument(help="Edge workers; client n asks number n modulo their number.")] = None,
    rate: Annotated[float, typer.Option(min=0.0, help="Requests a second, of all clients together.")] = 1.0,
    step: Annotated[list[str] | None, typer.Option(help="SECOND:RATE, from there on; may be repeated.")] = None,
    clients: Annotated[int, typer.Option(min=1, help="Independent clients.")] = 16,
    duration: Annotated[float, typer.Option(min=0.1, help="Seconds of load.")] = 60.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of one answer.")] = 64,
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="0: greedy.")] = 1.0,
    prompts: Annotated[Path | None, typer.Option(help="JSON lines with a field prompt, or one a line; none: made up.")] = None,
    drain: Annotated[float, typer.Option(min=0.0, help="Seconds for answers that run at the end.")] = 30.0,
    seed: Annotated[int, typer.Option(min=0, help="Of arrivals and prompts. Answers have none: they follow the policy.")] = 1,
    api_key: Annotated[str, typer.Option(envvar="SLUICE_API_KEY", help="Where the edge workers want one.")] = "",
    out: Annotated[Path | None, typer.Option(help="Also write that JSON object into this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Requests come when they are due, whatever became of those before; waiting counts from when they were due."""
    from services.loadgen.sender import LoadError

    load = Load(
        urls=urls or ["http://127.0.0.1:8000"],
        schedule=_schedule(rate, step or [], duration),
        clients=clients,
        seed=seed,
        body={"max_tokens": max_tokens, "temperature": temperature},
        prompts=_prompts(prompts, seed),
        api_key=api_key,
        drain_seconds=drain,
    )
    try:
        found = asyncio.run(_run(load, stderr_console()))
    except LoadError as error:
        raise CommandError(str(error)) from error
    if out is not None:
        try:
            out.write_text(json.dumps(found) + "\n")
        except OSError as error:
            raise CommandError(f"{out} cannot be written: {error.strerror}") from error
    typer.echo(json.dumps(found) if as_json else _table(found))


def _schedule(rate: float, steps: list[str], duration: float) -> Schedule:
    from services.loadgen.arrivals import Phase, Schedule

    phases = [Phase(0.0, rate)]
    for text in steps:
        at, _, then = text.partition(":")
        try:
            phases.append(Phase(float(at), float(then)))
        except ValueError as error:
            raise CommandError(f"--step {text!r}: say SECOND:RATE, such as 30:5") from error
    try:
        return Schedule(phases, duration)
    except ValueError as error:
        raise CommandError(f"--rate, --step and --duration: {error}") from error


def _prompts(path: Path | None, seed: int) -> list[str]:
    if path is not None:
        from services.cli.bench import prompts as files

        found = files.read(path)
        random.Random(seed).shuffle(found)
        return found
    from services.distill.prompts import prompts

    return list(islice(prompts(seed, "held-out"), PROMPTS))


async def _run(load: Load, console: Console) -> dict[str, Any]:
    from services.loadgen import report
    from services.loadgen.arrivals import poisson
    from services.loadgen.drive import Drive
    from services.loadgen.sender import HttpSender

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    schedule = load.schedule
    async with HttpSender(load.urls, load.prompts, load.body, api_key=load.api_key) as sender:
        arrivals = poisson(schedule, load.clients, load.seed)
        drive = Drive(arrivals, sender, duration=schedule.duration, drain_seconds=load.drain_seconds)
        started_at = time.time()
        telling = asyncio.create_task(_tell(drive, schedule, console))
        whole = await drive.run(stop)
        ended = drive.now
        telling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await telling
    return {
        "urls": sender.urls,
        "clients": load.clients,
        "seed": load.seed,
        "request": load.body,
        "started_at": started_at,
        "duration_seconds": ended,
        "stopped_early": not whole,
        **report.summarise(drive.answers, schedule, ended),
    }


async def _tell(drive: Drive, schedule: Schedule, console: Console) -> None:
    """What is going on, until cancelled."""
    if not console.is_terminal:
        while True:
            console.print(f"… {_line(drive, schedule)}", style="dim", markup=False)
            await asyncio.sleep(SAY_SECONDS)
    from rich.live import Live

    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(_view(drive, schedule), refresh=True)
            await asyncio.sleep(SHOW_SECONDS)


def _line(drive: Drive, schedule: Schedule) -> str:
    """The state in one line; tokens a second of the last five seconds."""
    from services.loadgen import report

    now, answers = drive.now, drive.answers
    rate = schedule.phases[schedule.number(min(now, schedule.duration))].rate if now < schedule.duration else 0.0
    recent = [a for a in answers if a.ended is None or a.ended > now - SAY_SECONDS]
    tokens = sum(1 for a in recent for at in a.token_at if at > now - SAY_SECONDS) / min(SAY_SECONDS, max(now, 0.1))
    figures = report.figures(answers)
    counts, first = figures["answers"], figures["seconds"]["first_token"]["p90"]
    return (
        f"{now:.0f} of {schedule.duration:.0f} s, {rate:g}/s: {drive.running} running, {counts['complete']} complete, "
        f"{counts['refused']} refused, {counts['failed']} failed, {tokens:.0f} tokens/s, first token p90 "
        + ("-" if first is None else f"{first:.2f} s")
    )


def _view(drive: Drive, schedule: Schedule) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    bar = ProgressBar(total=schedule.duration, completed=min(drive.now, schedule.duration), width=60)
    return Group(Text(_line(drive, schedule)), bar)


def _table(found: dict[str, Any]) -> str:
    counts, tokens, late = found["answers"], found["tokens"], found["late_starts"]
    lines = [
        f"{counts['offered']} requests in {found['duration_seconds']:.0f} s: {counts['complete']} complete, "
        f"{counts['refused']} refused (429), {counts['failed']} failed, {counts['unfinished']} unfinished",
        f"{tokens['total']} tokens, {found['tokens_per_second']:.1f} a second: "
        + ", ".join(f"{count} {name}" for name, count in tokens.items() if name != "total"),
        f"{'seconds':<14}{'p50':>9}{'p90':>9}{'p99':>9}",
    ]
    for name, values in found["seconds"].items():
        row = "".join(f"{'-' if value is None else f'{value:.3f}':>9}" for value in values.values())
        lines.append(f"{name.replace('_', ' '):<14}{row}")
    for phase in found["phases"] if len(found["phases"]) > 1 else ():
        first = phase["seconds"]["first_token"]["p90"]
        lines.append(
            f"from {phase['from']:g} s at {phase['rate']:g}/s: {phase['answers']['complete']} of {phase['answers']['offered']} "
            f"complete, first token p90 {'-' if first is None else f'{first:.3f} s'}"
        )
    if late["count"]:
        lines.append(f"{late['count']} requests began late, by up to {late['max_seconds']:.2f} s: this machine is too slow")
    lines += [f"{count} times: {error}" for error, count in found["errors"].items()]
    return "\n".join(lines)
