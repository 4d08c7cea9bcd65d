"""`sluice edge-worker` and `sluice verifier`: the services themselves, set up by environment variables."""

from __future__ import annotations

import os
import sys

import typer

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def edge_worker(context: typer.Context) -> None:
    """Run one edge worker (settings: environment variables SLUICE_EDGE_*, see docs/settings.md)."""
    _become("services.edge_worker", context.args)


def verifier(context: typer.Context) -> None:
    """Run one verifier (settings: environment variables SLUICE_VERIFIER_*, see docs/settings.md)."""
    _become("services.verifier", context.args)


def _become(module: str, arguments: list[str]) -> None:
    """This process becomes the service, so that signals and exit status are the service's own."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606
