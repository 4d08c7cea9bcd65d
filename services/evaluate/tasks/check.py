"""Whether a text solves a task. Words and numbers are compared here, code runs in ``sandbox``."""

from __future__ import annotations

import re

from services.evaluate import sandbox
from services.evaluate.tasks.task import Task

_MARK = re.compile(r"answer\s*(?:is)?\s*[:=]?\s*(?=\S)", re.IGNORECASE)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_WORD = re.compile(r"\w+")
_BLOCK = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)


def correct(task: Task, text: str) -> bool | None:
    """Whether ``text`` solves ``task``; ``None`` where nothing can tell."""
    if task.test is not None:
        return sandbox.passes(code_of(text), task.test)
    return None if task.answer is None else _same(task.answer, text)


def code_of(text: str) -> str:
    """The first fenced block of ``text``, or all of it."""
    found = _BLOCK.search(text)
    return found.group(1) if found else text


def _same(answer: str, text: str) -> bool:
    """The line behind the last "answer" that says something, else the end of the text; "3 + 4 = 7" says 7. Numbers compare as a
    list of numbers, words as words."""
    wanted = _NUMBER.findall(answer)
    parts = _NUMBER if wanted else _WORD
    joint = "" if len(wanted) == 1 else " "  # 1,200 is one number, 3,5 are two
    lines = [text[mark.end() :].partition("\n")[0] for mark in _MARK.finditer(text)]
    said = [line.rpartition("=")[2] for line in lines if parts.search(line)]
    target = [_plain(part) for part in parts.findall(answer)]
    found = [_plain(part) for part in parts.findall((said[-1] if said else text).replace(",", joint if wanted else " "))]
    return (found[: len(target)] if said else found[-len(target) :]) == target


def _plain(part: str) -> float | str:
    return float(part) if _NUMBER.fullmatch(part) else part.lower()
