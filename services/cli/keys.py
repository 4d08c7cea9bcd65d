"""`sluice keys`: the operator's master keys, the credentials that follow from them, and the API keys of clients."""

from __future__ import annotations

import json
import os
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from services.cli.errors import CommandError
from services.common.credentials import Credential, CredentialError, masters_text, new_master, parse_masters

MASTERS = "SLUICE_VERIFIER_MASTER_KEYS"

app = typer.Typer(
    no_args_is_help=True, help="Make master keys for verifiers, credentials for edge workers and API keys for clients."
)


@app.command("master")
def master(
    key_id: Annotated[int, typer.Option("--id", min=1, max=255, help="Number of the key; a new one for each rotation.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Print a new master key. Keep it secret: give it to the verifiers only, as SLUICE_VERIFIER_MASTER_KEYS."""
    text = masters_text({key_id: new_master()})
    typer.echo(json.dumps({"id": key_id, "master_key": text}) if as_json else text)


@app.command("worker")
def worker(
    group: Annotated[str, typer.Argument(help="Name of the group of workers that share the credential.")],
    tenant: Annotated[str, typer.Option(help="Whose sessions these are; empty: the workers say so for each session.")] = "",
    key_id: Annotated[
        int | None, typer.Option("--id", help="Master key to use; default: the one with the highest number.")
    ] = None,
    masters_file: Annotated[
        Path | None, typer.Option("--masters", help="File with the master keys; default: SLUICE_VERIFIER_MASTER_KEYS.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Print the credential of a group of edge workers, for SLUICE_EDGE_CREDENTIAL; the same input, the same credential."""
    try:
        masters = parse_masters(_masters(masters_file))
        credential = Credential.issue(masters, max(masters) if key_id is None else key_id, group, tenant)
    except CredentialError as error:
        raise CommandError(str(error)) from error
    if as_json:
        shown = {"id": credential.key_id, "group": group, "tenant": tenant, "credential": credential.text()}
        typer.echo(json.dumps(shown))
    else:
        typer.echo(credential.text())


@app.command("api")
def api(
    owner: Annotated[str, typer.Argument(help="Whose key it is: the tenant of the sessions it opens.")],
    until: Annotated[str, typer.Option(help="Last day it is good for (UTC), for example 2027-01-31; empty: no end.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Make an API key: the key for the client, and the line for the file that SLUICE_EDGE_API_KEYS_FILE names."""
    from services.edge_worker.http.api_keys import OWNER, new_key

    if not OWNER.fullmatch(owner):
        raise CommandError(f"an owner has 1 to 48 letters, digits or . _ -: {owner[:60]!r} does not")
    try:
        day = date.fromisoformat(until).isoformat() if until else ""
    except ValueError as error:
        raise CommandError(f"--until wants a day like 2027-01-31, not {until!r}") from error
    key, hashed = new_key()
    line = " ".join(filter(None, (owner, hashed, day)))
    if as_json:
        typer.echo(json.dumps({"owner": owner, "key": key, "line": line}))
    else:
        typer.echo(f"key, shown this once: {key}\nline for the file of keys: {line}")


def _masters(file: Path | None) -> str:
    if file is None:
        text = os.environ.get(MASTERS, "")
        if not text:
            raise CommandError(f"no master keys: set {MASTERS} or give --masters FILE (`sluice keys master` makes one)")
        return text
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"--masters {file}: cannot be read ({type(error).__name__})") from error
