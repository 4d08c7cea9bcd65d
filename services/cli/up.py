"""`sluice up`: everything on one machine, until Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import time
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.local.options import StackOptions
from services.cli.progress import Progress, stderr_console

if TYPE_CHECKING:
    from services.cli.local.stack import Stack

WATCH_SECONDS = 0.5


class Stopped(Exception):
    """SIGTERM or Ctrl-C came."""


def stop_on_signals() -> None:
    """The first SIGTERM or SIGINT raises ``Stopped`` in the main thread; later ones wait until everything is stopped."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        raise Stopped

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)


def command(
    verifiers: Annotated[int, typer.Option(help="Verifier processes; each holds the target model.")] = 2,
    host: Annotated[str, typer.Option(help="Address that the HTTP API listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the HTTP API; 0: any free one.")] = 8000,
    preset: Annotated[str | None, typer.Option(help="A named pair of models (default: smollm2-135m, works offline).")] = None,
    draft: Annotated[str | None, typer.Option(help="Small model: Hugging Face id, folder or GGUF file.")] = None,
    target: Annotated[str | None, typer.Option(help="Large model: Hugging Face id, folder or GGUF file.")] = None,
    kafka: Annotated[str | None, typer.Option(help="host:port of a Kafka broker instead of the embedded one.")] = None,
    redis: Annotated[str | None, typer.Option(help="URL of a Redis instead of the embedded one.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of each service.")] = None,
    broker_rtt_ms: Annotated[int, typer.Option(min=0, help="Delay of the embedded broker's replies, to play a slow link.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Say where everything is in one JSON object.")] = False,
) -> None:
    """Start broker, Redis, verifiers and one edge worker, print the URL, and run until Ctrl-C."""
    from services.cli.local.stack import Stack

    options = StackOptions(
        verifiers=verifiers,
        host=host,
        port=port or None,
        preset=preset,
        draft=draft,
        target=target,
        kafka=kafka,
        redis=redis,
        threads=threads,
        broker_rtt_ms=broker_rtt_ms,
    )
    console = stderr_console()
    stop_on_signals()
    try:
        with Progress(console) as progress, Stack(options, progress) as stack:
            progress.clear()
            _announce(stack, as_json)
            while True:
                for line in stack.revive():
                    console.print(line, markup=False)
                time.sleep(WATCH_SECONDS)
    except Stopped:
        console.print("stopped", style="dim")


def _announce(stack: Stack, as_json: bool) -> None:
    if as_json:
        place = {
            "url": f"{stack.url}/v1",
            "pid": os.getpid(),
            "kafka": stack.kafka,
            "redis": stack.redis,
            "verifiers": stack.verifier_urls,
            "logs": str(stack.nursery.folder),
        }
        typer.echo(json.dumps(place))
        return
    typer.echo(f"Sluice answers at {stack.url}/v1 (OpenAI's HTTP API). Ctrl-C stops it.")
    typer.echo(f"  talk:    sluice chat --url {stack.url}")
    typer.echo(f"  metrics: {stack.url}/metrics " + " ".join(f"{url}/metrics" for url in stack.verifier_urls))
    typer.echo(f"  logs:    {stack.nursery.folder}")
