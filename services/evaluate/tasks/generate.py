"""Distinct tasks from a seed. Made for pairs of small models, where the larger one is right often and the smaller one less.

They ask for one line and show no pattern to fill in: small models reason for pages, and copy "Answer: N" as it stands.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from functools import partial

from services.evaluate.tasks.code import FUNCTIONS
from services.evaluate.tasks.exact import NUMBERS, WORDS, Maker
from services.evaluate.tasks.stories import STORIES, told
from services.evaluate.tasks.task import Task, TaskError

_TURNS = ("arithmetic", "exact", "code", "arithmetic", "string", "exact")
_TRIES = 200  # in a row without a new prompt: the kind is used up


def generated(count: int, seed: int) -> list[Task]:
    """``count`` tasks with different prompts; the same ``seed`` gives the same ones, fewer of them the first ones of more.

    A third each are arithmetic and other numbers, a sixth each code and lists of words; kinds that are used up drop out.
    Raises ``TaskError`` where there are not so many."""
    draw = random.Random(seed)
    kinds = {
        "arithmetic": _distinct("arithmetic", [partial(told, s) for s in STORIES], draw),
        "exact": _distinct("exact", NUMBERS, draw),
        "string": _distinct("string", WORDS, draw),
        "code": _functions(draw),
    }
    turns, made = deque(_TURNS), list[Task]()
    while len(made) < count:
        if not turns:
            raise TaskError(f"there are {len(made)} made tasks, not {count}: lower --limit, or bring --prompts")
        kind = turns.popleft()
        task = next(kinds[kind], None)
        if task is not None:
            made.append(task)
            turns.append(kind)
    return made


def _distinct(kind: str, makers: list[Maker], draw: random.Random) -> Iterator[Task]:
    """Each maker in turn, until none has a new prompt."""
    left, seen = deque(makers), set[str]()
    while left:
        maker = left.popleft()
        for _ in range(_TRIES):
            question, answer, reply = maker(draw)
            if question not in seen:
                seen.add(question)
                left.append(maker)
                yield Task(f"{question} {reply}", kind, answer)
                break


def _functions(draw: random.Random) -> Iterator[Task]:
    for function in draw.sample(FUNCTIONS, len(FUNCTIONS)):
        prompt = f"Write a Python function `{function.call}` that {function.does}. Reply with one code block only."
        yield Task(prompt, "code", test="\n".join(f"assert {a}" for a in function.asserts))
