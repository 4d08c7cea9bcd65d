"""`sluice demo`: three answers, a table, one outage, on this machine, and nothing left behind."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from services.cli.decisions import coloured, legend
from services.cli.errors import CommandError
from services.cli.local.options import StackOptions
from services.cli.progress import Progress, stderr_console
from services.cli.up import Stopped, stop_on_signals

if TYPE_CHECKING:
    from services.cli.demo_report import Report
    from services.cli.demo_run import DemoRun

PROMPTS = (
    "What is a lighthouse for? Answer in three sentences.",
    "Give me five tips for a good night's sleep.",
    "Explain in simple words why the sky is blue.",
)
AUDIT_ALL = {"SLUICE_EDGE_AUDIT_RATE": "1"}  # the damage of three answers is counted, not estimated from a sample of them
OUTAGE_PROMPT = "Write a short paragraph about rivers."


def command(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output, nothing else there.")] = False,
    max_tokens: Annotated[int, typer.Option(min=8, max=1024, help="Most tokens of one answer.")] = 96,
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="0: greedy.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the answers.")] = 7,
    verifiers: Annotated[int, typer.Option(help="Verifier processes.")] = 2,
    preset: Annotated[str | None, typer.Option(help="A named pair of models (default: smollm2-135m, works offline).")] = None,
    draft: Annotated[str | None, typer.Option(help="Small model: Hugging Face id, folder or GGUF file.")] = None,
    target: Annotated[str | None, typer.Option(help="Large model: Hugging Face id, folder or GGUF file.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of each service.")] = None,
) -> None:
    """Start everything, answer three prompts, show what became of each token, survive an outage, stop everything."""
    from services.cli.demo_run import Asking, DemoRun
    from services.cli.local.stack import Stack

    options = StackOptions(
        verifiers=verifiers, preset=preset, draft=draft, target=target, threads=threads, edge_environment=AUDIT_ALL
    )
    console = stderr_console() if as_json else Console(highlight=False, soft_wrap=True)
    stop_on_signals()
    try:
        with Progress(stderr_console()) as progress:
            with Stack(options, progress) as stack:
                run = DemoRun(stack, Asking(max_tokens, temperature, seed), progress)
                with closing(run):
                    _play(run, console, show=not as_json)
            progress.clear()
            report = run.report(leftover_processes=len(stack.nursery.leftovers()))
    except Stopped as error:
        raise CommandError("stopped; everything was shut down") from error
    _finish(report, console, as_json)


def _play(run: DemoRun, console: Console, *, show: bool) -> None:
    """The acts of the demo, in order."""

    def say(text: str | Text) -> None:
        if show:
            run.progress.clear()
            console.print(text)

    def show_token(text: str, decision: str) -> None:
        if show:
            console.print(coloured(text, decision), end="")

    run.warm_up()
    say(legend())
    for prompt in PROMPTS:
        say(f"\n[bold]{prompt}[/]")
        run.ask(prompt, show_token)
        say("")
    run.end_answers()
    run.measure_baselines(PROMPTS)
    say("")
    run.progress.clear()
    if show:
        report = run.report()
        console.print(report.table())
        console.print(Text(report.verdict()))
    say(f"\n[bold]An outage: both verifiers are stopped.[/] [bold]{OUTAGE_PROMPT}[/]")
    lost = run.answer_without_verifiers(OUTAGE_PROMPT, show_token)
    unverified = lost.summary["tokens"]["unverified"]
    cause = lost.summary.get("degraded") or "no cause given"
    say(Text(f"\nThe answer says that it is degraded ({cause}): {unverified} of {lost.tokens} tokens unverified.", "red"))
    say("\n[bold]The verifiers are started again.[/]")
    run.start_verifiers()
    say(f"[bold]{OUTAGE_PROMPT}[/]")
    back = run.answer_until_verified(OUTAGE_PROMPT, show_token, lambda: say(Text("\n(not yet; asking again)", "dim")))
    tokens = back.summary["tokens"]
    say(
        Text(
            f"\nVerified again: {back.summary['judged']} candidates judged, {tokens['unverified']} tokens unverified.", "green"
        )
    )


def _finish(report: Report, console: Console, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report.as_json()))
    left = report.leftover_processes
    console.print(f"Everything is stopped; {left} processes left.")
    if left:
        raise CommandError(f"{left} processes of the demo still run; that is a bug, please report it")
