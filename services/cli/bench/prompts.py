"""Prompts from a file: JSON lines with a field ``prompt``, or one prompt a line."""

from __future__ import annotations

import json
from pathlib import Path

from services.cli.errors import CommandError


def read(path: Path) -> list[str]:
    """The prompts in order; ``CommandError`` where there are none."""
    try:
        lines = [line for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from error
    found = [_prompt(line, path) for line in lines]
    if not found:
        raise CommandError(f"{path} holds no prompts")
    return found


def _prompt(line: str, path: Path) -> str:
    if not line.lstrip().startswith("{"):
        return line.strip()
    try:
        return str(json.loads(line)["prompt"])
    except (ValueError, KeyError, TypeError) as error:
        raise CommandError(f"{path}: a line is no JSON object with a field 'prompt'") from error
