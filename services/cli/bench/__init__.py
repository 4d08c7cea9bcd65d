"""`sluice bench`: measurements on one machine, interleaved in one run, so that only ratios are compared."""

from __future__ import annotations

import typer

from services.cli.bench import acceptance, gate, profile, single
from services.cli.bench.overhead import command as metrics

app = typer.Typer(help="Measure speed and damage of a pair of models on this machine.", no_args_is_help=True)
app.command("single")(single.command)
app.command("acceptance")(acceptance.command)
app.command("gate")(gate.command)
app.command("profile")(profile.command)
app.command("metrics")(metrics.command)


@app.callback()
def _bench() -> None:
    """Measure speed and damage of a pair of models on this machine."""
