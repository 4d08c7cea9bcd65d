"""Tasks: made ones have one right answer each, and the check tells right from wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from services.evaluate import tasks
from services.evaluate.tasks import Task, TaskError, correct, generate
from services.evaluate.tasks.code import FUNCTIONS, Function
from services.evaluate.tasks.exact import GROUPS, TENS, UNITS
from services.evaluate.tasks.stories import STORIES, Story


@pytest.mark.parametrize(
    ("answer", "text", "right"),
    [
        ("537", "8 hours are 480 minutes. Answer: 537", True),
        ("537", "Answer: 480. No, Answer: 537.", True),
        ("537", "Answer: 5370", False),
        ("1200", "That makes **Answer: 1,200**", True),
        ("3, 5, 20", "Answer: 3, 5, 20", True),
        ("3, 5, 20", "Answer: 3, 20, 5", False),
        ("42", "It is 7 * 6 = 42", True),
        ("42", "Answer: 7 * 6 = 42", True),
        ("42", "Answer: 42. I hope this answer is clear.", True),
        ("42", "Answer:\n\n**42**", True),
        ("3, 5, 20", "Answer: [3,5,20]", True),
        ("-4", "Answer: -4", True),
        ("retaw", "Answer: Retaw!", True),
        ("retaw", "Answer: water", False),
        ("5", "", False),
        ("12:08", "Answer: 12:08", True),
        ("12:08", "Answer: 12:18", False),
    ],
)
def test_an_answer_is_right_or_not(answer: str, text: str, right: bool) -> None:
    assert correct(Task("?", answer=answer), text) is right


def test_made_tasks_are_distinct_follow_from_the_seed_and_have_one_answer() -> None:
    made = tasks.generated(500, 3)
    assert made[:200] == tasks.generated(200, 3)
    assert made != tasks.generated(500, 4)
    assert len({task.prompt for task in made}) == 500
    kinds = Counter(task.kind for task in made)
    assert kinds["code"] >= 40
    assert min(kinds["arithmetic"], kinds["exact"], kinds["string"]) >= 60
    for task in made:
        assert task.markable
        assert task.answer is None or correct(task, f"Let me think. Answer: {task.answer}") is True
        assert task.answer is None or correct(task, "Answer: 9999") is False


def test_a_seed_without_so_many_tasks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "STORIES", [Story("What is {a} * {b}?", ((2, 3), (4, 5)), lambda a, b: a * b)])
    monkeypatch.setattr(generate, "NUMBERS", [])
    monkeypatch.setattr(generate, "WORDS", [])
    most = len(FUNCTIONS) + 4
    assert len(tasks.generated(most, 1)) == most
    with pytest.raises(TaskError, match=f"there are {most} made tasks, not {most + 1}"):
        tasks.generated(most + 1, 1)


def test_the_answers_of_stories_by_hand() -> None:
    """In the order of ``STORIES``, each worked out from the words."""
    worked = [
        ((60, 20, 15), 65), ((500, 200, 50), 650), ((6, 11, 5), 61), ((7, 4), 7), ((20, 10, 2, 3), 70), ((12, 13), 156),
        ((30, 20, 4), 96), ((100, 50), 250), ((200, 15), 170), ((300, 10, 5), 250), ((11, 12, 3), 69), ((20, 3, 10), 70),
        ((10, 4, 5), 34), ((20, 6, 50), 70), ((50, 4, 10), 500), ((400, 10, 5), 350), ((20, 3, 4), 240), ((60, 20, 10), 25),
        ((30, 4, 8), 22), ((100, 7), 2),
    ]  # fmt: skip
    assert [story.answer(*numbers) for story, (numbers, _) in zip(STORIES, worked, strict=True)] == [a for _, a in worked]


def test_the_answers_of_other_kinds_by_another_way() -> None:
    """Recomputed from the words of the question, wherever the question says enough."""
    seen = set()
    for task in tasks.generated(600, 5):
        for pattern, answer in ANSWERS.items():
            found = re.search(pattern, task.prompt)
            if found is not None:
                seen.add(pattern)
                assert task.answer == str(answer(*found.groups())), task.prompt
    assert seen == set(ANSWERS)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _value(words: str) -> int:
    """ "three hundred and forty-two", by adding up."""
    values = {word: n for n, word in enumerate(UNITS)} | {word: 10 * n for n, word in enumerate(TENS, 2)}
    return sum(100 * values[w] if behind == "hundred" else values.get(w, 0) for w, behind in pairwise([*_words(words), ""]))


ANSWERS: dict[str, Callable[..., object]] = {
    r"What is ([-+*() 0-9]+)\?": lambda sum_: eval(sum_),  # noqa: S307 - digits and signs only
    r"digits of (\d+)": lambda number: sum(int(digit) for digit in number),
    r"are (\d+) hours and (\d+) minutes": lambda h, m: timedelta(hours=int(h), minutes=int(m)) // timedelta(minutes=1),
    r"next: (\d+), .*, (\d+)\?": lambda first, last: int(last) + (int(last) - int(first)) // 3,
    r"Write ([a-z -]+) in digits": _value,
    r"Add (\d+) to each of these numbers: (.*)\. ": lambda n, xs: ", ".join(str(int(x) + int(n)) for x in _words(xs)),
    r"steps of (\d+) from (\d+)": lambda step, a: ", ".join(map(str, range(int(a), int(a) + 5 * int(step), int(step)))),
    r"without '(\w+)': (.*)\. ": lambda word, xs: re.sub(rf"\b{word}\b(, )?", "", xs).removesuffix(", "),
    r"with '(\w+)' instead of '(\w+)': (.*)\. ": lambda new, old, xs: re.sub(rf"\b{old}\b", new, xs),
    r"right after '(\w+)' in this list: (.*)\?": lambda word, xs: re.findall(rf"\b{word}, (\w+)", xs)[0],
    r"Which of these is ([a-z ]+): (.*)\?": lambda kind, xs: next(x for x in _words(xs) if x in GROUPS[kind]),
    r"reverse order: (.*)\. ": lambda xs: ", ".join(reversed(_words(xs))),
}


def _source(function: Function) -> str:
    """The reference: the test has solutions, the product has none."""
    lines = (Path(__file__).parent / "references.txt").read_text().splitlines()
    return "def " + next(line for line in lines if line.startswith(function.call + ":"))


def _run(code: str, test: str) -> bool:
    """Here, for code of these tests; models' code runs in the sandbox."""
    names: dict[str, object] = {}
    try:
        exec(f"{code}\n{test}", names)  # noqa: S102
    except Exception:  # noqa: BLE001 - whatever broken code raises
        return False
    return True


def test_every_code_task_tells_right_from_wrong() -> None:
    made = {task.prompt: task for task in tasks.generated(600, 1) if task.kind == "code"}
    assert len(made) == len(FUNCTIONS) >= 40
    for function in FUNCTIONS:
        name = function.call.partition("(")[0]
        (task,) = (task for prompt, task in made.items() if f"`{function.call}`" in prompt)
        assert task.test is not None
        assert 2 <= len(function.asserts) <= 4
        right = _source(function)
        assert _run(right, task.test), function.call
        first = f"def {name}(*xs):\n    _first or _first.append(_right(*xs))\n    return _first[0]"
        constant = f"{right}\n_right, _first = {name}, []\n{first}"
        wrong = (constant, f"def {name}(*xs): return xs[0]", f"def {name}(*xs): return None", f"def {name}(", right + "[")
        assert not any(_run(code, task.test) for code in wrong), function.call


def test_a_code_task_in_the_sandbox() -> None:
    for function in FUNCTIONS[::8]:
        task = next(t for t in tasks.generated(600, 1) if f"`{function.call}`" in t.prompt)
        answer = f"Sure:\n```python\n{_source(function)}\n```\nThat is it."
        assert correct(task, answer) is True
        assert correct(task, answer.replace("return ", "return not ")) is False


def test_code_runs_with_limits() -> None:
    task = Task("?", "code", test="assert double(4) == 8")
    assert correct(task, "Sure:\n```python\ndef double(n):\n    return 2 * n\n```\nDone.") is True
    assert correct(task, "def double(n):\n    return n") is False
    assert correct(task, "import socket\ndef double(n):\n    return 2 * n") is False
    assert correct(task, "print('done')\nraise SystemExit(0)") is False  # leaving early is no success
    assert correct(task, "x = bytearray(10 ** 9)\ndef double(n):\n    return 2 * n") is False


def test_prompts_of_a_file_keep_their_answers(tmp_path: Path) -> None:
    file = tmp_path / "p"
    file.write_text('{"prompt": "a", "answer": 5, "kind": "arithmetic"}\nplain\n{"prompt": "c", "test": "assert True"}\n')
    assert tasks.read(file) == [Task("a", "arithmetic", "5"), Task("plain"), Task("c", "chat", None, "assert True")]
    assert correct(Task("plain"), "anything") is None
    file.write_text('{"prompt": "a", "answer": 0.00001}\n{"prompt": "b", "answer": [3, -5.5]}\n{"prompt": "c", "answer": 12.0}')
    small, both, twelve = tasks.read(file)
    assert correct(small, "Answer: 0.00001") is True
    assert correct(small, "Answer: 1") is False
    assert correct(both, "Answer: [3, -5.50]") is True
    assert correct(twelve, "Answer: 12") is True
    for raw in ('{"prompt": "a", "answer": true}', '{"prompt": "a", "answer": {}}', '{"prompt": "a", "test": 1}'):
        file.write_text(raw)
        with pytest.raises(TaskError, match="must be"):
            tasks.read(file)
    file.write_text('{"prompt": " "}')
    with pytest.raises(TaskError, match="empty"):
        tasks.read(file)
    file.write_text('{"text": 1}')
    with pytest.raises(TaskError, match="line 1"):
        tasks.read(file)
