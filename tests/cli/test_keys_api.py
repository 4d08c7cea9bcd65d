"""`sluice keys api` makes what the edge worker reads."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from services.cli.main import app
from services.edge_worker.http.api_keys import ApiKeys


def test_the_line_opens_for_the_key(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["keys", "api", "shop", "--until", "2999-01-31", "--json"])
    made = json.loads(done.stdout)
    file = tmp_path / "keys"
    file.write_text(made["line"] + "\n")
    assert made["key"] not in made["line"]
    assert ApiKeys(file=file).owner(made["key"]) == "shop"


def test_bad_owners_and_days_are_refused() -> None:
    for arguments in (["no/slash"], ["shop", "--until", "tomorrow"]):
        done = CliRunner().invoke(app, ["keys", "api", *arguments], standalone_mode=False)
        assert done.exception is not None
        assert arguments[-1] in str(done.exception)
