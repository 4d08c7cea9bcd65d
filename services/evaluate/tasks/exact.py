"""Tasks with one right answer that are no word problems: about numbers and lists of them, and about lists of words."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

Made = tuple[str, str, str]  # question, answer, how to reply
Maker = Callable[[random.Random], Made]
NUMBER, LIST, WORD = (f"Reply with {what} only." for what in ("the number", "the list", "one word"))
LINE = "Reply with one line: the calculation and its result."
_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen"
)
UNITS = _UNITS.split()
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
GROUPS = {
    "an animal": ["falcon", "rabbit", "salmon", "spider", "turtle", "donkey", "horse", "eagle", "tiger", "monkey"],
    "a fruit": ["apple", "banana", "cherry", "grape", "lemon", "melon", "peach", "pear", "plum", "mango"],
    "a tool": ["hammer", "ladder", "needle", "scissors", "shovel", "wrench", "chisel", "saw", "drill", "pliers"],
    "a relative": ["aunt", "brother", "cousin", "daughter", "mother", "nephew", "sister", "uncle"],
    "a vehicle": ["bicycle", "bus", "ferry", "lorry", "rocket", "tractor", "train", "tram"],
    "a musical instrument": ["drum", "flute", "guitar", "harp", "piano", "trumpet", "violin", "cello"],
    "a piece of clothing": ["coat", "dress", "glove", "hat", "jacket", "scarf", "shirt", "sock"],
    "a building": ["castle", "church", "museum", "palace", "school", "temple", "theatre", "hospital"],
}
WORDS_USED = [word for words in GROUPS.values() for word in words]


def _listed(draw: random.Random, count: int, most: int) -> tuple[list[int], str]:
    numbers = draw.sample(range(11, most), count)
    return numbers, _joined(numbers)


def _joined(parts: Sequence[object]) -> str:
    return ", ".join(map(str, parts))


def _largest(draw: random.Random) -> Made:
    numbers, text = _listed(draw, 6, 999)
    return f"What is the largest of {text}?", str(max(numbers)), NUMBER


def _smallest(draw: random.Random) -> Made:
    numbers, text = _listed(draw, 6, 999)
    return f"What is the smallest of {text}?", str(min(numbers)), NUMBER


def _sorted(draw: random.Random) -> Made:
    numbers, text = _listed(draw, 5, 99)
    return f"Sort these numbers from smallest to largest: {text}.", _joined(sorted(numbers)), LIST


def _backwards(draw: random.Random) -> Made:
    numbers, text = _listed(draw, 5, 99)
    return f"Write this list in reverse order: {text}.", _joined(numbers[::-1]), LIST


def _raised(draw: random.Random) -> Made:
    (numbers, text), more = _listed(draw, 4, 60), draw.randint(2, 9)
    return f"Add {more} to each of these numbers: {text}.", _joined([n + more for n in numbers]), LIST


def _multiples(draw: random.Random) -> Made:
    factor, first = draw.randint(3, 15), draw.randint(2, 5)
    found = [factor * n for n in range(first, first + 5)]
    return f"Count up in steps of {factor} from {found[0]}: write five numbers.", _joined(found), LIST


def _sequence(draw: random.Random) -> Made:
    start, step = draw.randint(3, 60), draw.randint(3, 15)
    return f"Which number comes next: {_joined([start + step * n for n in range(4)])}?", str(start + 4 * step), NUMBER


def _minutes(draw: random.Random) -> Made:
    hours, minutes = draw.randint(2, 9), draw.randint(1, 59)
    return f"How many minutes are {hours} hours and {minutes} minutes?", str(60 * hours + minutes), LINE


def _digits(draw: random.Random) -> Made:
    number = draw.randint(100, 9999)
    return f"What is the sum of the digits of {number}?", str(sum(map(int, str(number)))), LINE


def _spelled(draw: random.Random) -> Made:
    number = draw.randint(101, 999)
    return f"Write {in_words(number)} in digits.", str(number), NUMBER


def in_words(number: int) -> str:
    """From 100 to 999."""
    hundreds, rest = divmod(number, 100)
    tens, units = divmod(rest, 10)
    low = UNITS[rest] if rest < len(UNITS) else TENS[tens - 2] + (f"-{UNITS[units]}" if units else "")
    return f"{UNITS[hundreds]} hundred" + (f" and {low}" if rest else "")


def _member(draw: random.Random) -> Made:
    group, words = draw.choice(list(GROUPS.items()))
    right = draw.choice(words)
    shown = draw.sample([word for word in WORDS_USED if word not in words], 4)
    shown.insert(draw.randint(0, 4), right)
    return f"Which of these is {group}: {_joined(shown)}?", right, WORD


def _without(draw: random.Random) -> Made:
    words = draw.sample(WORDS_USED, 5)
    out = draw.choice(words)
    return f"Write this list without '{out}': {_joined(words)}.", _joined([w for w in words if w != out]), LIST


def _swapped(draw: random.Random) -> Made:
    words = draw.sample(WORDS_USED, 5)
    old, new = draw.choice(words), draw.choice([w for w in WORDS_USED if w not in words])
    changed = _joined([new if word == old else word for word in words])
    return f"Write this list with '{new}' instead of '{old}': {_joined(words)}.", changed, LIST


def _reversed(draw: random.Random) -> Made:
    words = draw.sample(WORDS_USED, 4)
    return f"Write these words in reverse order: {_joined(words)}.", _joined(words[::-1]), LIST


def _alphabet(draw: random.Random) -> Made:
    words = _initials_differ(draw, 3)
    return f"Sort these words from A to Z: {_joined(words)}.", _joined(sorted(words)), LIST


def _after(draw: random.Random) -> Made:
    words = draw.sample(WORDS_USED, 5)
    at = draw.randint(0, 3)
    return f"Which word comes right after '{words[at]}' in this list: {_joined(words)}?", words[at + 1], WORD


def _initials_differ(draw: random.Random, count: int) -> list[str]:
    by_letter = {word[0]: word for word in draw.sample(WORDS_USED, len(WORDS_USED))}
    return draw.sample(list(by_letter.values()), count)


NUMBERS: list[Maker] = [
    _largest, _minutes, _sorted, _raised, _sequence, _spelled, _multiples, _smallest, _digits, _backwards,
]  # fmt: skip
WORDS: list[Maker] = [_member, _without, _after, _swapped, _reversed, _alphabet]
