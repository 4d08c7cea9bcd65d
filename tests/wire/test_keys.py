"""`sluice keys`, and what the services say to keys that cannot work."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.errors import CommandError
from services.cli.local.identities import CREDENTIAL, MASTERS, Identities
from services.cli.main import app
from services.common.credentials import Credential, Identity, Keyring, Signer, new_master, parse_masters
from services.common.credentials import masters_text as text_of

KEY = secrets.token_bytes(16)


def sluice(*arguments: str, masters: str | None = None) -> str:
    environment = {MASTERS: masters} if masters is not None else {MASTERS: None}
    done = CliRunner().invoke(app, ["keys", *arguments], env=environment, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.stdout.strip()


def test_what_is_printed_works(tmp_path: Path) -> None:
    masters = sluice("master") + "," + sluice("master", "--id", "2")
    printed = sluice("worker", "shop", "--tenant", "acme", masters=masters)
    credential = Credential.parse(printed)
    assert (credential.key_id, credential.group, credential.tenant) == (2, "shop", "acme")
    headers = Signer(credential, "shop.1").headers(KEY, b"v")
    assert Keyring(parse_masters(masters)).verify(headers, KEY, b"v") == Identity("shop.1", "acme")
    assert sluice("worker", "shop", "--tenant", "acme", masters=masters) == printed
    file = tmp_path / "masters"
    file.write_text(masters.replace(",", ",\n") + "\n")
    shown = json.loads(sluice("worker", "shop", "--id", "1", "--masters", str(file), "--json"))
    assert shown == {"id": 1, "group": "shop", "tenant": "", "credential": shown["credential"]}
    assert Credential.parse(shown["credential"]).key_id == 1
    assert list(json.loads(sluice("master", "--json"))) == ["id", "master_key"]


@pytest.mark.parametrize(
    ("arguments", "masters", "told"),
    [
        (["worker", "shop"], None, f"set {MASTERS}"),
        (["worker", "shop"], "1:ab", "not 32"),
        (["worker", "a.b"], "", "no master keys"),
        (["worker", "a.b"], f"1:{'00' * 32}", "a group has"),
        (["worker", "shop", "--tenant", "x y"], f"1:{'00' * 32}", "a tenant has"),
        (["worker", "shop", "--id", "9"], f"1:{'00' * 32}", "no master key 9"),
        (["worker", "shop", "--masters", "/nowhere"], None, "/nowhere: cannot be read"),
    ],
)
def test_what_cannot_work_is_told(arguments: list[str], masters: str | None, told: str) -> None:
    with pytest.raises(CommandError, match=told) as caught:
        sluice(*arguments, masters=masters)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("service", "variable", "value", "told"),
    [
        ("edge_worker", CREDENTIAL, "", "missing; the operator"),
        ("edge_worker", CREDENTIAL, "sluice1:1:shop::AAAA", "was it cut off"),
        ("verifier", MASTERS, "", "missing; `sluice keys master`"),
        ("verifier", MASTERS, "1:abcdef", "3 bytes, not 32"),
        ("verifier", "SLUICE_VERIFIER_REVOKED", "not a group!", "neither GROUP nor ID:GROUP"),
    ],
)
def test_a_service_without_a_good_key_ends_with_one_line(service: str, variable: str, value: str, told: str) -> None:
    command = [sys.executable, "-m", f"services.{service}"]
    done = subprocess.run(
        command, env={**os.environ, variable: value}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert variable in line
    assert told in line
    assert "AAAA" not in line


def test_a_stack_makes_its_keys_unless_the_environment_brings_some() -> None:
    one, two = Identities.of_run({}), Identities.of_run({})
    assert one.verifier() != two.verifier()
    for run in (one, two):
        credential = Credential.parse(run.edge_worker()[CREDENTIAL])
        headers = Signer(credential, "local").headers(KEY, b"v")
        assert Keyring(parse_masters(run.verifier()[MASTERS])).verify(headers, KEY, b"v").worker == "local"
        assert run.edge_worker()[CREDENTIAL] not in repr(run)
    masters = {7: new_master()}
    own = {MASTERS: text_of(masters)}
    assert Identities.of_run(own).verifier() == own
    assert Credential.parse(Identities.of_run(own).edge_worker()[CREDENTIAL]).key_id == 7
    given = Credential.issue(masters, 7, "shop").text()
    assert Identities.of_run({**own, CREDENTIAL: given}).edge_worker() == {CREDENTIAL: given}
    for wrong, told in (
        ({CREDENTIAL: given}, f"{MASTERS} is not"),
        ({MASTERS: "x"}, f"{MASTERS}: a master key reads"),
        ({**own, CREDENTIAL: "x"}, f"{CREDENTIAL}: not a credential"),
    ):
        with pytest.raises(CommandError, match=told):
            Identities.of_run(wrong)
