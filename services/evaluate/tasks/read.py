"""Tasks out of a file."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from services.evaluate.tasks.task import Task, TaskError


def read(path: Path) -> list[Task]:
    """JSON lines with ``prompt`` and, where there is one, ``answer`` (text, a number, a list of these) or ``test``; or one
    prompt a line.

    Raises ``TaskError``."""
    try:
        lines = [line for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path} cannot be read: {error}") from error
    if not lines:
        raise TaskError(f"{path} holds no prompts")
    return [_parsed(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def _parsed(line: str, where: str) -> Task:
    if not line.lstrip().startswith("{"):
        return Task(line.strip())
    try:
        raw: dict[str, Any] = json.loads(line)
        prompt, answer, test = str(raw["prompt"]), raw.get("answer"), raw.get("test")
    except (ValueError, KeyError, TypeError) as error:
        raise TaskError(f"{where}: no JSON object with a field 'prompt'") from error
    if not prompt.strip():
        raise TaskError(f"{where}: the prompt is empty")
    if not isinstance(test, str | None):
        raise TaskError(f"{where}: 'test' must be Python asserts in one text")
    return Task(prompt, str(raw.get("kind", "chat")), None if answer is None else _answer(answer, where), test)


def _answer(value: object, where: str) -> str:
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return format(Decimal(str(value)), "f")  # str() would write small ones as 1e-05
    if isinstance(value, list) and value:
        return ", ".join(_answer(one, where) for one in value)
    raise TaskError(f"{where}: 'answer' must be a text, a number or a list of these")
