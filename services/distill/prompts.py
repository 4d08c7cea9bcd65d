"""Training prompts for distillation: seeded, endless, and made without any data set.

Two sources are mixed. *Templates* combine everyday subjects, names and numbers into questions of the kinds a chat
assistant is asked (facts, advice, writing, arithmetic, lists, code). *Self-instruct* lets the target write the user turn
itself (see ``corpus.self_instruct``); this module only says how many of each are wanted.

The generator is a pure function of its seed; `split="held-out"` draws from templates' subjects that training never uses.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Literal

_SUBJECTS = """photosynthesis|volcanoes|the water cycle|black holes|gravity|electric cars|solar panels|wind turbines|the printing press|
the Roman Empire|ancient Egypt|the French Revolution|the Silk Road|the moon landing|the Great Wall of China|the Industrial Revolution|
dinosaurs|honey bees|dolphins|elephants|coral reefs|rain forests|deserts|rivers|glaciers|earthquakes|hurricanes|climate change|recycling|
vaccines|the immune system|the human heart|sleep|exercise|healthy eating|stress|meditation|yoga|running a marathon|swimming|football|chess|
learning a language|learning the guitar|painting|photography|poetry|writing a novel|reading books|cooking pasta|baking bread|making soup|
growing tomatoes|gardening|keeping a dog|cats|aquariums|camping|hiking|travelling by train|moving to a new city|renting a flat|
buying a used car|saving money|a household budget|inflation|interest rates|the stock market|starting a small business|marketing|
customer service|project management|team meetings|job interviews|writing a resume|time management|public speaking|negotiation|leadership|
remote work|machine learning|neural networks|databases|computer networks|encryption|passwords|operating systems|open source software|
version control|unit testing|debugging|web browsers|search engines|cloud computing|mobile phones|3D printing|robots|drones|satellites|
telescopes|the periodic table|acids and bases|magnets|electricity|sound waves|light and colour|prime numbers|fractions|probability|
statistics|geometry|the Pythagorean theorem|democracy|the United Nations|human rights|philosophy|ethics|psychology|memory|music theory|
jazz|classical music|opera|theatre|cinema|architecture|bridges|airplanes|ships|bicycles|trains|coffee|tea|chocolate|cheese|rice|olive oil|
the Olympic Games|tennis|skiing|sailing|Japan|Brazil|Kenya|Canada|Italy|India|Norway|Australia|Mexico|New York|Paris|London|Tokyo"""
_ASKS = """What is {s}?|Explain {s} in simple terms.|Explain {s} to a child.|Tell me about {s}.|Write a short paragraph about {s}.|
Give me three facts about {s}.|List five tips about {s}.|Why is {s} important?|What are the advantages and disadvantages of {s}?|
Write a poem about {s}.|Write a short story that mentions {s}.|How did {s} change the world?|What should a beginner know about {s}?|
Summarise {s} in two sentences.|Write an email to a friend about {s}.|What questions would you ask an expert on {s}?|
Describe {s} in your own words.|What are common mistakes with {s}?|How would you teach {s} in ten minutes?|Write a title and an outline for an article on {s}.|
Give an example that shows {s}.|I want to know more about {s}. Where do I start?|Is {s} overrated? Give both sides.|Compare {s} with {t}.|
What do {s} and {t} have in common?|Write a dialogue between two people about {s}.|What is a good slogan for {s}?|Name three books or films about {s}.|
What might {s} look like in fifty years?|Write a haiku about {s}.|What is the history of {s}?|How does {s} work?|Which is better, {s} or {t}?|
What should I check before I start with {s}?|Write a polite message that asks for help with {s}.|Describe a day spent with {s}."""
_ARITHMETIC = """{n} has {a} {o}. {n} buys {b} more and gives away {c}. How many {o} does {n} have now?|
A box contains {a} {o}. There are {d} boxes and {b} {o} are broken. How many are whole?|A bus drives {a} km a day for {d} days and then {b} km. How far is it in all?|
What is {a} + {b}?|What is {a} - {c}?|What is {d} times {e}?|A shop sells {d} {o} for {b} dollars each. How much does it earn?|
A garden is {a} m by {b} m. What is its area?|A rectangle is {a} cm long and {b} cm wide. What is its perimeter?|{n} reads {b} pages a day for {d} days. How many pages is that?|
A library has {a} books. {c} are lent out and {b} come back. How many are there now?|If {d} workers each make {b} {o}, and {c} are sold, how many are left?|
{n} walks {d} km in the morning and {e} km in the evening for {f} days. How far is that?|A theatre has {d} rows of {e} seats. {c} are taken. How many are free?|
How many minutes are {f} hours and {d} minutes?|How many seconds are {d} minutes?|What is half of {a}?|What is {f} percent of {a}?|
Sort these numbers from largest to smallest: {a}, {b}, {c}, {d}, {e}.|What is the smallest of {a}, {b}, {c} and {d}?|Is {a} even or odd?|
How many letters are in the word '{w}'?|Spell the word '{w}' backwards.|What is the first letter of '{w}'?|Put these words in order: {w}, {v}, {u}.|
Which word is longest: {w}, {v} or {u}?|What is the next number: {d}, {e}, {a}?|Round {a}.{d} to the nearest whole number."""
_CODE = """Write a Python function that {c}.|Write a Python function `solve(xs)` that {c}. Reply with one code block only.|
How do I write a program that {c}?|Explain step by step how a function {c}.|Write a JavaScript function that {c}."""
_TASKS = """returns the sum of a list|finds the largest element of a list|reverses a string|counts the words in a text|removes duplicates from a list|
checks whether a number is prime|computes a factorial|returns the first n Fibonacci numbers|sorts a list of tuples by the second item|
merges two dictionaries|converts Celsius to Fahrenheit|reads a file line by line|counts how often each character occurs|
returns the even numbers of a list|checks whether two strings are anagrams|computes the average of a list|finds the second largest number|
rotates a list by k places|joins a list of strings with commas|returns the common elements of two lists|transposes a matrix|
counts the digits of a number|finds the longest word in a sentence|computes the dot product of two vectors|checks whether brackets are balanced"""
_SUFFIXES = [
    "",
    "",
    "",
    "",
    " End with 'Answer: N'.",
    " Answer briefly.",
    " Think step by step.",
    " Keep it under 50 words.",
    " Use bullet points.",
]
_NAMES = "Ben Clara David Emma Farid Grace Hugo Ines Jonas Kira Leo Maria Nina Omar Paula Quinn Rosa Sam Tara Viktor".split()
_OBJECTS = (
    "apples books pencils stamps marbles tickets bottles chairs plates flowers cards shells buttons eggs oranges bricks".split()
)
_WORDS = "planet window garden bridge yellow mountain pepper silver orange castle rocket bottle market winter animal kitchen forest button guitar".split()


def _options(block: str) -> list[str]:
    return [part.strip() for part in block.replace("\n", "").split("|") if part.strip()]


def _arithmetic(rng: random.Random, template: str) -> str:
    w, v, u = rng.sample(_WORDS, 3)
    values = {
        "n": rng.choice(_NAMES), "o": rng.choice(_OBJECTS), "w": w, "v": v, "u": u,
        "a": rng.randint(50, 900), "b": rng.randint(5, 99), "c": rng.randint(2, 49),
        "d": rng.randint(3, 40), "e": rng.randint(3, 60), "f": rng.randint(2, 12),
    }  # fmt: skip
    return template.format(**values)


def prompts(seed: int, split: Literal["train", "held-out"] = "train") -> Iterator[str]:
    """Yield user prompts for ever; every fifth subject and task belongs to the held-out split alone."""
    rng = random.Random(f"{split}-{seed}")
    held_out = split == "held-out"

    def mine(options: list[str]) -> list[str]:
        return [o for i, o in enumerate(options) if (i % 5 == 4) == held_out]

    subjects, tasks = mine(_options(_SUBJECTS)), mine(_options(_TASKS))
    asks, sums, code = _options(_ASKS), _options(_ARITHMETIC), _options(_CODE)
    while True:
        kind = rng.random()
        if kind < 0.60:
            s, t = rng.sample(subjects, 2)
            text = rng.choice(asks).format(s=s, t=t)
        elif kind < 0.90:
            text = _arithmetic(rng, rng.choice(sums))
        else:
            text = rng.choice(code).format(c=rng.choice(tasks))
        yield text + rng.choice(_SUFFIXES)
