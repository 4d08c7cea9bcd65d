"""`sluice policy`: the service itself, and a person's hand on its knobs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from services.cli.errors import CommandError

if TYPE_CHECKING:
    from services.common.policy_record import OverrideRecord, PolicyRecord
    from services.common.redis_client import Client

T = TypeVar("T")
UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST_SECONDS = 7 * 24 * 3600.0

app = typer.Typer(
    help="Run the policy service (settings: environment variables SLUICE_POLICY_*), or look at its knobs and set them.",
    invoke_without_command=True,
)
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@app.callback()
def _policy(context: typer.Context) -> None:
    """Without a sub-command: run the service until SIGTERM."""
    if context.invoked_subcommand is None:
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", "services.policy"])  # noqa: S606


@app.command("set")
def set_(
    device_class: Annotated[str, typer.Argument(help="Device class; `default` where there is only one.")] = "default",
    k: Annotated[int | None, typer.Option(min=1, max=16, help="Most candidates of one upload.")] = None,
    gamma: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Strictness of the gate: 0 always asks, 1 is the calibrated point.")
    ] = None,
    for_: Annotated[str, typer.Option("--for", help="How long: 90s, 10m, 2h.")] = "10m",
    reason: Annotated[str, typer.Option(help="Kept in the decision log.")] = "",
    clear: Annotated[bool, typer.Option("--clear", help="Take an override away instead.")] = False,
    as_json: Json = False,
) -> None:
    """Set the knobs of one class by hand for a time; the controller takes over again when it is over."""
    from services.common.policy_record import CLASS_PATTERN
    from services.policy import publisher

    if not re.fullmatch(CLASS_PATTERN, device_class):
        raise CommandError(f"{device_class!r} is no device class: letters, digits, dot, underscore and hyphen, at most 64")
    seconds = 0.0 if clear else _seconds(for_)

    async def work(client: Client) -> tuple[int, float]:
        now = await publisher.current(client)
        before = now.of(device_class) if now is not None else None
        if not clear and before is None and (k is None or gamma is None):
            raise CommandError("no policy is in force to take the other knob from: give both --k and --gamma")
        wanted = (
            k if k is not None else (before.k if before is not None else 0),
            gamma if gamma is not None else (before.gamma if before is not None else 0.0),
        )
        await publisher.override(client, device_class, *wanted, seconds, reason)
        return wanted

    if not clear and k is None and gamma is None:
        raise CommandError("nothing to set: give --k, --gamma or both, or --clear")
    wanted = _with_redis(work)
    if as_json:
        shown = (
            {"class": device_class, "cleared": True} if clear else {"class": device_class, "k": wanted[0], "gamma": wanted[1]}
        )
        typer.echo(json.dumps({**shown, "seconds": seconds}))
    elif clear:
        typer.echo(f"{device_class}: back to the controller at its next decision")
    else:
        typer.echo(f"{device_class}: k {wanted[0]}, gamma {wanted[1]:g} for {seconds:.0f} s, from the next decision on")


@app.command("show")
def show(as_json: Json = False) -> None:
    """The policy in force, its version, and what is set by hand."""
    from services.policy import publisher

    async def work(client: Client) -> tuple[PolicyRecord | None, dict[str, OverrideRecord]]:
        return await publisher.current(client), await publisher.overrides(client)

    record, overrides = _with_redis(work)
    if as_json:
        by_hand = {
            n: {"k": o.k, "gamma": o.gamma, "left_seconds": o.left_seconds, "reason": o.reason} for n, o in overrides.items()
        }
        typer.echo(json.dumps({"policy": record.model_dump() if record is not None else None, "overrides": by_hand}))
        return
    if record is None:
        typer.echo("no policy is in force: edges go by their own settings (is the policy service running?)")
    else:
        typer.echo(f"version {record.version}")
        for name, knobs in sorted(record.classes.items()):
            typer.echo(f"  {name}: k {knobs.k}, gamma {knobs.gamma:g} (at most {knobs.gamma_max:g}), by {knobs.source}")
    for name, o in sorted(overrides.items()):
        typer.echo(f"  {name}: by hand k {o.k}, gamma {o.gamma:g} for another {o.left_seconds:.0f} s {o.reason}".rstrip())


@app.command("history")
def history(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Decisions, the newest first.")] = 20,
    changes: Annotated[bool, typer.Option("--changes", help="Only those that changed a knob, among them.")] = False,
    as_json: Json = False,
) -> None:
    """The last decisions, with their reasons and inputs."""
    from services.policy import publisher

    entries = _with_redis(lambda client: publisher.history(client, limit))
    if changes:
        entries = [e for e in entries if e.get("old") != [e.get("k"), e.get("gamma")]]
    if as_json:
        typer.echo(json.dumps({"decisions": entries}))
        return
    for entry in entries:
        typer.echo(_line(entry))


def _line(entry: dict[str, Any]) -> str:
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(float(entry.get("at", 0.0)), UTC).isoformat(timespec="seconds")
    old = entry.get("old") or ["?", "?"]
    knobs = f"k {old[0]} -> {entry.get('k')}, gamma {old[1]} -> {entry.get('gamma')}"
    return f"{at} {entry.get('device_class')}: {knobs} ({entry.get('source')}: {entry.get('reason')})"


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    seconds = float(found[1]) * UNITS[found[2]] if found else 0.0
    if not 1.0 <= seconds <= LONGEST_SECONDS:
        raise CommandError(f"--for {text}: a time like 90s, 10m or 2h, from one second to seven days")
    return seconds


def _with_redis(work: Callable[[Client], Awaitable[T]]) -> T:
    """``work`` with a client of the Redis that SLUICE_POLICY_REDIS_* name."""
    from services.common.redis_client import TRANSIENT, RedisSettings, connect
    from services.common.settings import load
    from services.policy.settings import PolicySettings

    settings: RedisSettings = load(PolicySettings)

    async def run() -> T:
        client = connect(settings.redis_link, connections=1, timeout_seconds=5.0)
        try:
            return await work(client)
        finally:
            await client.aclose()

    try:
        return asyncio.run(run())
    except TRANSIENT as error:
        raise CommandError(
            f"Redis at {settings.redis_link.shown} does not answer ({error}); SLUICE_POLICY_REDIS_URL names another"
        ) from error
