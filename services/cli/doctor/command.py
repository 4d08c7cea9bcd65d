"""`sluice doctor`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from services.cli.doctor import kafka, local, redis
from services.cli.doctor.line import Line, State
from services.cli.topics.settings import TopicsSettings
from services.common.kafka.check import EDGE_NEEDS, verifier_needs
from services.common.settings import SECRETS_DIR, ConfigError, S, load
from services.edge_worker.identity import signer
from services.edge_worker.settings import EdgeSettings
from services.verifier.settings import VerifierSettings

SOMETHING_FAILED = 1  # exit status
_COLOURS = {State.OK: "green", State.FAILED: "bold red", State.UNKNOWN: "yellow"}


def command(
    edge: Annotated[bool, typer.Option("--edge", help="Check what an edge worker needs (SLUICE_EDGE_*).")] = False,
    verifier: Annotated[bool, typer.Option("--verifier", help="Check what a verifier needs (SLUICE_VERIFIER_*).")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Check Kafka, Redis, keys, models and ports with the settings in this environment; exit status 1 if something fails.

    Without --edge and --verifier: those of which the environment has settings, or both.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the one line that tells the cause is ours
    if not edge and not verifier:
        edge, verifier = _set_up(EdgeSettings), _set_up(VerifierSettings)
        edge, verifier = edge or not verifier, verifier or not edge
    lines = asyncio.run(_examine(edge, verifier))
    good = all(line.state is not State.FAILED for line in lines)
    if as_json:
        typer.echo(json.dumps({"ok": good, "lines": [line.row() for line in lines]}))
    else:
        _print(lines)
    if not good:
        raise typer.Exit(SOMETHING_FAILED)


def _set_up(settings: type[EdgeSettings | VerifierSettings | TopicsSettings]) -> bool:
    """Whether the environment, or the folder of secrets, says anything for this service."""
    prefix = str(settings.model_config.get("env_prefix", ""))
    folder = Path(os.environ.get(SECRETS_DIR) or "/nonexistent")
    files = (path.name.upper() for path in folder.iterdir()) if folder.is_dir() else ()
    return any(name.startswith(prefix) for name in (*os.environ, *files))


async def _examine(edge: bool, verifier: bool) -> list[Line]:
    lines: list[Line] = []
    edge_settings = _load(EdgeSettings, "edge", lines) if edge else None
    verifier_settings = _load(VerifierSettings, "verifier", lines) if verifier else None
    if edge_settings is not None:
        lines += await _edge(edge_settings)
    if verifier_settings is not None:
        lines += await _verifier(verifier_settings)
    if edge_settings is not None and verifier_settings is not None:
        lines += local.pair_lines(edge_settings, verifier_settings)
    if _set_up(TopicsSettings):
        topics = _load(TopicsSettings, "topics", lines)
        lines += await kafka.as_wanted(topics) if topics is not None else []
    return lines


async def _edge(settings: EdgeSettings) -> list[Line]:
    worker = signer(settings.credential.get_secret_value(), settings.worker).worker
    return [
        *await asyncio.to_thread(local.edge_lines, settings),
        *await kafka.lines("edge", settings.kafka_link, EDGE_NEEDS),
        *await redis.edge_lines(settings.redis_link, worker),
    ]


async def _verifier(settings: VerifierSettings) -> list[Line]:
    return [
        *await asyncio.to_thread(local.verifier_lines, settings),
        *await kafka.lines("verifier", settings.kafka_link, verifier_needs(settings.group_id)),
        *await redis.verifier_lines(settings.redis_link),
    ]


def _load(cls: type[S], service: str, lines: list[Line]) -> S | None:
    """The settings, or None and a failed line about them."""
    try:
        settings = load(cls)
    except ConfigError as error:
        lines.append(Line.of(service, "settings", str(error)))
        return None
    lines.append(Line.of(service, "settings", ""))
    return settings


def _print(lines: list[Line]) -> None:
    table = Table()
    for title in ("service", "check", "", "found, or what to do"):
        table.add_column(title, overflow="fold")
    for line in lines:
        colour = _COLOURS[line.state]
        table.add_row(line.service, line.what, f"[{colour}]{line.state}[/]", line.detail)
    console = Console()
    console.print(table)
    failed = sum(line.state is State.FAILED for line in lines)
    console.print(f"{failed} of {len(lines)} checks failed" if failed else f"all {len(lines)} checks passed")
