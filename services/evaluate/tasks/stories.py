"""Arithmetic word problems and plain sums, one to three steps each."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kim", "Lea")
THINGS = ("apples", "books", "coins", "stamps", "marbles", "pens", "lamps", "cards", "shells", "tiles", "bottles", "candles")


REPLY = "Reply with one line: the calculation and its result."


@dataclass(frozen=True)
class Story:
    """``text`` with places for ``a``, ``b``, ``c``, ``d``, their product ``ab``, a ``name`` and ``things``; numbers are drawn
    from ``ranges``, in order; ``answer`` of them."""

    text: str
    ranges: tuple[Sequence[int], ...]
    answer: Callable[..., int]


def told(story: Story, draw: random.Random) -> tuple[str, str, str]:
    """Question, answer and how to reply."""
    numbers = [draw.choice(values) for values in story.ranges]
    places = dict(zip("abcd", numbers, strict=False)) | {"ab": numbers[0] * numbers[1]}
    question = story.text.format(**places, name=draw.choice(NAMES), things=draw.choice(THINGS))
    return question, str(story.answer(*numbers)), REPLY


STORIES = (
    Story(
        "{name} has {a} {things}, finds {b} more and then gives away {c}. How many {things} does {name} have now?",
        (range(20, 90), range(5, 40), range(3, 20)),
        lambda a, b, c: a + b - c,
    ),
    Story("What is {a} + {b} - {c}?", (range(20, 99), range(11, 60), range(3, 30)), lambda a, b, c: a + b - c),
    Story(
        "{a} boxes hold {b} {things} each. {c} of the {things} are broken. How many are whole?",
        (range(4, 13), range(6, 21), range(3, 24)),
        lambda a, b, c: a * b - c,
    ),
    Story(
        "{ab} {things} are packed into boxes of {b}. How many boxes are filled?",
        (range(5, 21), range(3, 13)),
        lambda a, b: a,
    ),
    Story(
        "A ticket costs {a} euros for an adult and {b} euros for a child. What do {c} adults and {d} children pay together?",
        (range(6, 20), range(2, 6), range(2, 6), range(2, 6)),
        lambda a, b, c, d: a * c + b * d,
    ),
    Story("What is {a} * {b}?", (range(11, 60), range(3, 13)), lambda a, b: a * b),
    Story(
        "A garden is {a} m long and {b} m wide. How many metres of fence go around it if a gap of {c} m stays open?",
        (range(20, 50), range(5, 20), range(2, 9)),
        lambda a, b, c: 2 * (a + b) - c,
    ),
    Story(
        "A van drives {a} km on Monday, {b} km on Tuesday and twice as far on Wednesday as on Tuesday. How many km is that?",
        (range(20, 90), range(10, 40)),
        lambda a, b: a + 3 * b,
    ),
    Story(
        "A coat costs {a} euros. Its price is reduced by {b} percent. How many euros does it cost now?",
        (range(20, 300, 20), (10, 20, 25, 50)),
        lambda a, b: a - a * b // 100,
    ),
    Story(
        "A tank holds {a} litres. {b} litres flow out each minute. How many litres are left after {c} minutes?",
        (range(60, 150), range(3, 11), range(3, 7)),
        lambda a, b, c: a - b * c,
    ),
    Story("What is ({a} + {b}) * {c}?", (range(3, 20), range(3, 20), range(2, 8)), lambda a, b, c: (a + b) * c),
    Story(
        "{name} reads {a} pages on each of {b} days and {c} pages on the day after. How many pages is that in all?",
        (range(11, 40), range(3, 10), range(5, 40)),
        lambda a, b, c: a * b + c,
    ),
    Story(
        "{name} is {a} years old and has a brother who is {b} years older. How old will both be together in {c} years?",
        (range(5, 40), range(2, 12), range(2, 15)),
        lambda a, b, c: 2 * a + b + 2 * c,
    ),
    Story(
        "{name} saves {a} euros a week for {b} weeks and then spends {c} euros. How many euros are left?",
        (range(5, 40), range(4, 12), range(5, 20)),
        lambda a, b, c: a * b - c,
    ),
    Story(
        "A recipe for {b} people needs {ab} grams of flour. How many grams are needed for {c} people?",
        (range(20, 80, 10), range(2, 5), range(5, 13)),
        lambda a, b, c: a * c,
    ),
    Story("What is {a} - {b} * {c}?", (range(60, 150), range(3, 11), range(3, 7)), lambda a, b, c: a - b * c),
    Story(
        "One machine makes {a} parts an hour. How many parts do {b} machines make in {c} hours?",
        (range(5, 30), range(2, 6), range(2, 6)),
        lambda a, b, c: a * b * c,
    ),
    Story(
        "A bus starts with {a} people. {b} get off and {c} get on. Then half of the people get off. How many are on the bus?",
        (range(40, 90, 2), range(6, 30, 2), range(4, 30, 2)),
        lambda a, b, c: (a - b + c) // 2,
    ),
    Story(
        "{b} children share {ab} {things} equally. {name} is one of them and gives away {c}. How many does {name} keep?",
        (range(15, 40), range(3, 9), range(2, 14)),
        lambda a, b, c: a - c,
    ),
    Story("What is the remainder of {a} divided by {b}?", (range(20, 100), range(3, 10)), lambda a, b: a % b),
)
