"""`sluice topics create`, `show` and `acls`."""

from __future__ import annotations

import asyncio
import json
import logging
import shlex
import time
from typing import Annotated, Any

import typer

from services.cli.topics import acls, plan
from services.cli.topics.admin import Admin, admin
from services.cli.topics.plan import Difference, Topic
from services.cli.topics.settings import TopicsSettings
from services.common.keys import VERIFIER_GROUP
from services.common.settings import load

NOT_AS_WANTED = 1  # exit status
VISIBLE_SECONDS = 10.0

app = typer.Typer(no_args_is_help=True, help="Make and check the topics in Kafka, and list the rights that its users need.")

Kafka = Annotated[str | None, typer.Option("--kafka", help="host:port of brokers; default: SLUICE_TOPICS_KAFKA_BOOTSTRAP.")]
Partitions = Annotated[int | None, typer.Option(min=1, help="Partitions of the candidates: the most verifiers at work.")]
Replication = Annotated[int | None, typer.Option(min=0, help="Copies of each partition; 0: three, or one for each broker.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object.")]


@app.command("create")
def create(
    kafka: Kafka = None,
    partitions: Partitions = None,
    replication: Replication = None,
    alter: Annotated[bool, typer.Option("--alter", help="Change what is not as wanted about topics that exist.")] = False,
    as_json: Json = False,
) -> None:
    """Create the topics that are missing; what exists stays as it is, unless --alter is given. Settings: SLUICE_TOPICS_*."""
    settings = _settings(kafka_bootstrap=kafka, partitions=partitions, replication=replication)
    _show(asyncio.run(_create(settings, alter)), as_json)


@app.command("show")
def show(kafka: Kafka = None, partitions: Partitions = None, replication: Replication = None, as_json: Json = False) -> None:
    """Compare the topics with the settings; exit status 1 where something is missing or different."""
    settings = _settings(kafka_bootstrap=kafka, partitions=partitions, replication=replication)
    _show(asyncio.run(_look(settings)), as_json)


@app.command("acls")
def list_acls(
    edge: Annotated[str, typer.Option(help="User of the edge workers.")] = "edge",
    verifier: Annotated[str, typer.Option(help="User of the verifiers.")] = "verifier",
    operator: Annotated[str, typer.Option(help="User that runs `sluice topics create`.")] = "operator",
    group: Annotated[str, typer.Option(help="Consumer group of the verifiers.")] = VERIFIER_GROUP,
    kafka: Annotated[str, typer.Option("--kafka", help="host:port of a broker, for the printed commands.")] = "HOST:PORT",
    as_json: Json = False,
) -> None:
    """Print the least rights that each user needs, as calls of Kafka's own kafka-acls.sh."""
    rights = acls.rights(edge, verifier, operator, group)
    if as_json:
        typer.echo(json.dumps({"rights": [right.row() for right in rights], "commands": acls.commands(rights)}))
        return
    for arguments in acls.commands(rights):
        typer.echo(shlex.join(["kafka-acls.sh", "--bootstrap-server", kafka, *arguments]))


def _settings(**given: Any) -> TopicsSettings:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the one line that tells the cause is ours
    return load(TopicsSettings, **{name: value for name, value in given.items() if value is not None})


async def _create(settings: TopicsSettings, alter: bool) -> list[dict[str, Any]]:
    async with admin(settings.kafka_link) as kafka:
        wanted, found = await _compare(kafka, settings)
        done: dict[str, str] = {}
        for want in wanted:
            if want.name not in found:
                await kafka.create(want)
                done[want.name] = "created"
            elif alter and await _alter(kafka, plan.differences(want, found[want.name])):
                done[want.name] = "altered"
        after = await _once_visible(kafka, wanted, set(done))
    return [_row(want, after.get(want.name), done.get(want.name, "")) for want in wanted]


async def _alter(kafka: Admin, found: list[Difference]) -> bool:
    """Whether anything was changed."""
    if config := plan.config_changes(found):
        await kafka.alter(found[0].topic, config)
    if partitions := plan.more_partitions(found):
        await kafka.grow(found[0].topic, partitions)
    return bool(config or partitions)


async def _once_visible(kafka: Admin, wanted: list[Topic], changed: set[str]) -> dict[str, Topic]:
    """The topics after a change: a broker learns of it from the controller a moment later."""
    end = time.monotonic() + VISIBLE_SECONDS
    while True:
        found = await kafka.find([topic.name for topic in wanted])
        behind = [want for want in wanted if want.name in changed and not _done(want, found.get(want.name))]
        if not behind or time.monotonic() > end:
            return found
        await asyncio.sleep(0.1)


def _done(want: Topic, found: Topic | None) -> bool:
    return found is not None and all(difference.obstacle for difference in plan.differences(want, found))


async def _look(settings: TopicsSettings) -> list[dict[str, Any]]:
    async with admin(settings.kafka_link) as kafka:
        wanted, found = await _compare(kafka, settings)
    return [_row(want, found.get(want.name), "") for want in wanted]


async def _compare(kafka: Admin, settings: TopicsSettings) -> tuple[list[Topic], dict[str, Topic]]:
    wanted = plan.wanted(settings, await kafka.brokers())
    return wanted, await kafka.find([topic.name for topic in wanted])


def _row(want: Topic, found: Topic | None, done: str) -> dict[str, Any]:
    different = plan.differences(want, found) if found else []
    state = done or ("missing" if found is None else "as wanted" if not different else "different")
    return {
        "topic": want.name,
        "state": state,
        "ok": found is not None and not different,
        "partitions": found.partitions if found else 0,
        "replication": found.replication if found else 0,
        "config": {key: found.config.get(key) for key in want.config} if found else {},
        "differences": [{"what": d.what, "wanted": d.wanted, "found": d.found, "obstacle": d.obstacle} for d in different],
    }


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    good = all(row["ok"] for row in rows)
    if as_json:
        typer.echo(json.dumps({"ok": good, "topics": rows}))
    else:
        _print(rows)
    if not good:
        raise typer.Exit(NOT_AS_WANTED)


def _print(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if row["partitions"]:
            typer.echo(f"{row['topic']}: {row['state']}; {row['partitions']} partitions, {row['replication']} copies of each")
        else:
            typer.echo(f"{row['topic']}: does not exist; create it with `sluice topics create`")
        for key, value in row["config"].items():
            typer.echo(f"    {key} = {value}")
        for d in row["differences"]:
            todo = d["obstacle"] or "`sluice topics create --alter` changes it"
            typer.echo(f"  ! {d['what']} is {d['found']}, wanted {d['wanted']}: {todo}")
