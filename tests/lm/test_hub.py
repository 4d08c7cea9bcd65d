"""Ids of the Hugging Face hub go through the real download code, here against a server on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.lm.hub_server import COMMIT, hub

CODE = """
import json, sys
from services.common.lm.errors import ModelError
from services.common.lm.loading import load
for reference in sys.argv[1:]:
    try:
        loaded = load(reference, dtype="float32", threads=1)
        print("RESULT", json.dumps([loaded.revision, loaded.vocabulary]))
    except ModelError as error:
        print("RESULT", json.dumps(str(error)))
"""


def ask(endpoint: str, cache: Path, *references: str) -> tuple[list[object], str]:
    """What ``load`` gives for each reference in a process of its own, and everything else it wrote."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))},
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(cache),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-W", "error::UserWarning:services", "-c", CODE, *references]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150, check=True)
    results = [json.loads(text.removeprefix("RESULT ")) for text in done.stdout.splitlines() if text.startswith("RESULT ")]
    return results, done.stderr


def test_download_and_every_way_it_fails(tiny_folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with hub("owner/tiny", "owner/locked", tiny_folder) as endpoint:
        references = ("owner/tiny", f"owner/tiny@{COMMIT}", "owner/tiny@v9", "owner/none", "owner/locked")
        (plain, pinned, revision, unknown, locked), errors = ask(endpoint, cache, *references)
    assert plain == pinned == [COMMIT, 300]
    assert revision == "owner/tiny has no revision v9: check the part after '@'"
    assert str(unknown).startswith("the hub knows no model owner/none")
    assert str(locked).startswith("owner/locked needs an accepted licence")
    assert "Traceback" not in errors
    assert "it/s" not in errors

    # The server is gone: what was downloaded still loads, what was not is said at once.
    (again, pinned, missing), errors = ask(endpoint, cache, "owner/tiny", f"owner/tiny@{COMMIT}", "owner/other")
    assert again == pinned == [COMMIT, 300]
    assert "is not on this machine and the hub cannot be reached" in str(missing)
    assert "Traceback" not in errors
