"""The `sluice` command. Nothing heavy is imported before the command that needs it is chosen."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
from importlib import metadata
from typing import Annotated, Any

import structlog
import typer

from services.cli import calibrate, chat, demo, distill, doctor, evaluate, loadgen, services, simulate, up
from services.cli.errors import CommandError
from services.cli.loop import command as loop
from services.common.lm.errors import ModelError
from services.common.settings import ConfigError

# Modules of further commands: each has `app`, a typer.Typer, and imports torch inside its functions only.
GROUPS = {
    "bench": "services.cli.bench",
    "topics": "services.cli.topics",
    "keys": "services.cli.keys",
    "policy": "services.cli.policy",
}
EXIT_STATUS = 2


class Sluice(typer.Typer):
    """Ends with one clear line instead of a traceback; `SLUICE_DEBUG=1` shows the traceback."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().__call__(*arguments, **options)
        except (CommandError, ConfigError, ModelError) as error:
            _complain(str(error))
        except Exception as error:
            if os.environ.get("SLUICE_DEBUG"):
                raise
            _complain(f"unexpected {type(error).__name__}: {error} (SLUICE_DEBUG=1 shows where)")


def _complain(text: str) -> None:
    sys.stderr.write("sluice: " + " ".join(text.split()) + "\n")
    sys.exit(EXIT_STATUS)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sluice {metadata.version('sluice')}")
        raise typer.Exit


app = Sluice(name="sluice", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Hybrid LLM inference: a small model writes, a large one judges only what is uncertain and important."""
    structlog.configure(  # standard output belongs to results
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


app.command("up")(up.command)
app.command("demo")(demo.command)
app.command("chat")(chat.command)
app.command("distill")(distill.command)
app.command("calibrate")(calibrate.command)
app.command("evaluate")(evaluate.command)
app.command("simulate")(simulate.command)
app.command("loadgen")(loadgen.command)
app.command("loop")(loop.command)
app.command("doctor")(doctor.command)
app.command("edge-worker", context_settings=services.PASS_ON)(services.edge_worker)
app.command("verifier", context_settings=services.PASS_ON)(services.verifier)
for _name, _module in GROUPS.items():
    if importlib.util.find_spec(_module) is not None:
        app.add_typer(importlib.import_module(_module).app, name=_name)


def main() -> None:
    app(prog_name="sluice")
