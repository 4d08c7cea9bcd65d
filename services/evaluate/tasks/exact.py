"""Tasks with one right answer that are no word problems: about lists of numbers, times, other notations, and about words."""

from __future__ import annotations

import random
from collections.abc import Callable

Made = tuple[str, str, str]  # question, answer, how the answer is to be written
Maker = Callable[[random.Random], Made]
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_VOCABULARY = (
    "anchor basket bottle bridge butter camera candle carpet castle cherry circle coffee copper cotton desert dragon engine "
    "falcon finger forest garden guitar hammer harbor helmet island jacket jungle kettle ladder lantern lemon magnet marble "
    "mirror museum needle ocean orange palace pencil pepper pillow planet pocket rabbit ribbon river rocket saddle salmon "
    "shadow silver spider spring summer temple ticket tunnel turtle velvet violin walnut window winter yellow"
)
VOCABULARY = _VOCABULARY.split()
_ROMAN = ((100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))


def _listed(draw: random.Random, count: int, most: int = 999) -> tuple[list[int], str]:
    numbers = draw.sample(range(11, most), count)
    return numbers, ", ".join(map(str, numbers))


def _largest(draw: random.Random) -> Made:
    numbers, text = _listed(draw, 6)
    return f"What is the largest of {text}?", str(max(numbers)), "N"


def _second(draw: random.Random) -> Made:
    numbers, text = _listed(draw, 5)
    return f"What is the second largest of {text}?", str(sorted(numbers)[-2]), "N"


def _sorted(draw: random.Random) -> Made:
    numbers, text = _listed(draw, 5, 99)
    return f"Sort these numbers from smallest to largest: {text}.", ", ".join(map(str, sorted(numbers))), "the list"


def _spread(draw: random.Random) -> Made:
    numbers, text = _listed(draw, 5, 99)
    return f"What is the difference of the largest and the smallest of {text}?", str(max(numbers) - min(numbers)), "N"


def _even(draw: random.Random) -> Made:
    numbers, text = _listed(draw, 6, 99)
    return f"How many of these numbers are even: {text}?", str(sum(n % 2 == 0 for n in numbers)), "N"


def _sequence(draw: random.Random) -> Made:
    start, step = draw.randint(3, 60), draw.randint(4, 29)
    text = ", ".join(str(start + step * n) for n in range(4))
    return f"Which number comes next: {text}?", str(start + 4 * step), "N"


def _digits(draw: random.Random) -> Made:
    number = draw.randint(1000, 99999)
    return f"What is the sum of the digits of {number}?", str(sum(map(int, str(number)))), "N"


def _minutes(draw: random.Random) -> Made:
    hours, minutes = draw.randint(2, 19), draw.randint(1, 59)
    return f"How many minutes are {hours} hours and {minutes} minutes?", str(60 * hours + minutes), "N"


def _clock(draw: random.Random) -> Made:
    start, wait = draw.randint(6 * 60, 18 * 60), draw.randint(35, 190)
    end = start + wait
    question = f"It is {start // 60:02d}:{start % 60:02d}. What time is it {wait} minutes later?"
    return question, f"{end // 60:02d}:{end % 60:02d}", "HH:MM"


def _roman(draw: random.Random) -> Made:
    number = draw.randint(11, 199)
    rest, text = number, ""
    for value, sign in _ROMAN:
        text += sign * (rest // value)
        rest %= value
    return f"Which number is the Roman numeral {text}?", str(number), "N"


def _binary(draw: random.Random) -> Made:
    number = draw.randint(5, 63)
    return f"Which decimal number is the binary number {number:b}?", str(number), "N"


def _weekday(draw: random.Random) -> Made:
    day, later = draw.randrange(7), draw.randint(2, 40)
    return f"Today is {DAYS[day]}. Which day of the week is it in {later} days?", DAYS[(day + later) % 7], "DAY"


def _letters(draw: random.Random) -> Made:
    word = draw.choice(VOCABULARY)
    letter = draw.choice(word)
    return f"How often does the letter '{letter}' occur in the word '{word}'?", str(word.count(letter)), "N"


def _reverse(draw: random.Random) -> Made:
    word = draw.choice(VOCABULARY)
    return f"What is the word '{word}' spelled backwards?", word[::-1], "WORD"


def _length(draw: random.Random) -> Made:
    word = draw.choice(VOCABULARY)
    return f"How many letters does the word '{word}' have?", str(len(word)), "N"


def _alphabet(draw: random.Random) -> Made:
    words = draw.sample(VOCABULARY, 4)
    return f"Sort these words from A to Z: {', '.join(words)}.", ", ".join(sorted(words)), "the list"


def _first(draw: random.Random) -> Made:
    words = draw.sample(VOCABULARY, 5)
    return f"Which of these words comes first in a dictionary: {', '.join(words)}?", min(words), "WORD"


def _initials(draw: random.Random) -> Made:
    words = draw.sample(VOCABULARY, 4)
    question = f"Write the first letters of the words {', '.join(words)} as one word without spaces."
    return question, "".join(word[0] for word in words), "WORD"


def _place(draw: random.Random) -> Made:
    words = draw.sample(VOCABULARY, 6)
    at = draw.randint(1, 5)
    return f"Which word stands right before '{words[at]}' in this list: {', '.join(words)}?", words[at - 1], "WORD"


NUMBERS: list[Maker] = [
    _largest, _minutes, _second, _clock, _sorted, _roman, _spread, _sequence, _even, _binary, _digits, _weekday,
]  # fmt: skip
WORDS: list[Maker] = [_first, _letters, _alphabet, _initials, _reverse, _place, _length]
