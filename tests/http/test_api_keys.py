"""API keys: hashed, several, ended, and changed while the worker runs."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import SecretStr

from services.edge_worker.http.api_keys import ApiKeys, from_file, new_key
from tests.http.conftest import MODEL
from tests.http.scripts import says

HELLO = [{"role": "user", "content": "hi"}]


def test_a_hash_opens_for_its_key_only() -> None:
    key, hashed = new_key()
    keys = ApiKeys([SecretStr(hashed)])
    assert keys.owner(key) == ApiKeys([SecretStr(key)]).owner(key) is not None
    assert keys.owner(hashed) is None  # who reads the settings cannot use them
    assert keys.owner(key[:-1]) is None


def test_a_key_ends_after_its_last_day(tmp_path: Path) -> None:
    old, old_hash = new_key()
    new, new_hash = new_key()
    file = tmp_path / "keys"
    file.write_text(f"# rotated\n\nshop {old_hash} 2026-03-01\nshop {new_hash}\n")
    day = date(2026, 3, 1)
    keys = ApiKeys(file=file, today=lambda: day)
    assert (keys.owner(old), keys.owner(new)) == ("shop", "shop")
    day = date(2026, 3, 2)
    assert (keys.owner(old), keys.owner(new)) == (None, "shop")


def test_a_changed_file_is_read_again_and_a_broken_one_is_not(tmp_path: Path) -> None:
    first, first_hash = new_key()
    second, second_hash = new_key()
    now, file = 0.0, tmp_path / "keys"
    file.write_text(f"a {first_hash}\n")
    keys = ApiKeys(file=file, clock=lambda: now)
    _replace(file, f"b {second_hash}\n")
    assert keys.owner(second) is None  # not looked yet
    now = 2.0
    assert (keys.owner(first), keys.owner(second)) == (None, "b")
    _replace(file, "nonsense\n")
    now = 4.0
    assert keys.owner(second) == "b"
    _replace(file, "")
    now = 6.0
    assert keys.owner(second) is None
    assert keys.required  # an empty file closes the API, it does not open it


def _replace(file: Path, text: str) -> None:
    """As an operator or a mounted secret does: a new file in the place of the old one."""
    other = file.with_suffix(".new")
    other.write_text(text)
    os.replace(other, file)


@pytest.mark.parametrize("line", ["shop", "shop md5:00", "sh/op sha256:" + "0" * 64, "shop sha256:" + "0" * 64 + " soon"])
def test_a_bad_line_is_named_without_its_content(tmp_path: Path, line: str) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# first\n{line}\n")
    with pytest.raises(ValueError, match="line 2") as caught:
        from_file(file)
    assert line not in str(caught.value)


async def test_the_owner_is_the_tenant_and_a_withdrawn_key_is_refused(api: Any, tokenizer: Any, tmp_path: Path) -> None:
    key, hashed = new_key()
    file = tmp_path / "keys"
    file.write_text(f"shop {hashed}\n")
    now = 0.0
    answerer = says(tokenizer, "x")
    client = await api(answerer, api_key=key, api_keys=ApiKeys(file=file, clock=lambda: now))
    await client.chat.completions.create(model=MODEL, messages=HELLO)
    assert answerer.requests[0].tenant == "shop"
    _replace(file, "# nobody\n")
    now = 2.0
    with pytest.raises(openai.AuthenticationError):
        await client.chat.completions.create(model=MODEL, messages=HELLO)
