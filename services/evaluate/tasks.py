"""Tasks with one right answer, made from a seed or read from a file, and the check of an answer. Code runs in ``sandbox``."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.evaluate import sandbox

WORDS = [
    "anchor",
    "bottle",
    "candle",
    "desert",
    "engine",
    "forest",
    "garden",
    "hammer",
    "island",
    "jacket",
    "kettle",
    "ladder",
    "magnet",
    "needle",
    "orange",
    "pencil",
]
CODE = (
    ("double_all(xs)", "returns the list of all numbers of xs doubled", "assert double_all([1, 2, 5]) == [2, 4, 10]"),
    ("count_vowels(s)", "returns how many of the letters of s are one of aeiou", "assert count_vowels('banana tree') == 5"),
    ("is_even(n)", "returns whether n is even", "assert is_even(4) is True and is_even(7) is False"),
    ("last_item(xs)", "returns the last element of the list xs", "assert last_item([3, 1, 2]) == 2"),
)
_MARK = re.compile(r"answer\s*(?:is)?\s*[:=]?\s*(?=\S)", re.IGNORECASE)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_WORD = re.compile(r"\w+")
_BLOCK = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)


class TaskError(ValueError):
    """``str`` is one line that says what is wrong with a file of prompts."""


@dataclass(frozen=True)
class Task:
    """``answer``: the one right answer; ``test``: asserts that code must pass; neither: a prompt that nothing can mark."""

    prompt: str
    kind: str = "chat"
    answer: str | None = None
    test: str | None = None

    @property
    def markable(self) -> bool:
        return self.answer is not None or self.test is not None


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


# -- made from a seed -------------------------------------------------------------------------------------------------


def generated(count: int, seed: int) -> list[Task]:
    """``count`` tasks, kinds in turn; the same ``seed`` gives the same ones."""
    draw = random.Random(seed)
    makers = (_sum, _story, _largest, _sorted, _letters, _reverse, _minutes, _code)
    return [makers[n % len(makers)](draw) for n in range(count)]


def _asked(kind: str, question: str, answer: object, form: str = "N") -> Task:
    return Task(f"{question} End with 'Answer: {form}'.", kind, str(answer))


def _sum(draw: random.Random) -> Task:
    a, b = draw.randint(11, 99), draw.randint(11, 99)
    return _asked("arithmetic", f"What is {a} + {b}?", a + b)


def _story(draw: random.Random) -> Task:
    a, b, c = draw.randint(50, 200), draw.randint(10, 90), draw.randint(5, 49)
    return _asked("arithmetic", f"A shop has {a} lamps. It buys {b} more and then sells {c}. How many has it?", a + b - c)


def _largest(draw: random.Random) -> Task:
    numbers = draw.sample(range(2, 99), 5)
    return _asked("exact", f"What is the largest of {', '.join(map(str, numbers))}?", max(numbers))


def _sorted(draw: random.Random) -> Task:
    numbers = draw.sample(range(2, 99), 4)
    text = ", ".join(map(str, sorted(numbers)))
    return _asked("exact", f"Sort these numbers from smallest to largest: {', '.join(map(str, numbers))}.", text, "the list")


def _letters(draw: random.Random) -> Task:
    word = draw.choice(WORDS)
    letter = draw.choice(word)
    return _asked("string", f"How often does the letter '{letter}' occur in the word '{word}'?", word.count(letter))


def _reverse(draw: random.Random) -> Task:
    word = draw.choice(WORDS)
    return _asked("string", f"What is the word '{word}' spelled backwards?", word[::-1], "WORD")


def _minutes(draw: random.Random) -> Task:
    hours, minutes = draw.randint(1, 9), draw.randint(1, 59)
    return _asked("exact", f"How many minutes are {hours} hours and {minutes} minutes?", 60 * hours + minutes)


def _code(draw: random.Random) -> Task:
    call, does, test = draw.choice(CODE)
    return Task(f"Write a Python function `{call}` that {does}. Reply with one code block only.", "code", test=test)


# -- from a file ------------------------------------------------------------------------------------------------------


def read(path: Path) -> list[Task]:
    """JSON lines with ``prompt`` and, where there is one, ``answer`` or ``test``; or one prompt a line.

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
        if not str(raw["prompt"]).strip():
            raise TaskError(f"{where}: the prompt is empty")
        return Task(str(raw["prompt"]), str(raw.get("kind", "chat")), _text(raw, "answer"), _text(raw, "test"))
    except TaskError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise TaskError(f"{where}: no JSON object with a field 'prompt'") from error


def _text(raw: dict[str, Any], name: str) -> str | None:
    return None if raw.get(name) is None else str(raw[name])
