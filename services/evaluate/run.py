"""One evaluation: every prompt through every method, recorded as it goes, then the figures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from services.common.calibration.files import text_hash
from services.common.journal import Header, JournalError, Lines
from services.evaluate import methods, modelled, similarity, summary
from services.evaluate.methods import Calibrated, Knobs, Method
from services.evaluate.modelled import World
from services.evaluate.similarity import Likeness, Sentences
from services.evaluate.summary import Figures
from services.evaluate.tasks import Task, correct
from services.evaluate.trace import Record
from services.evaluate.write import Asked, Subject, alone, remote, silent, write
from services.pair.judge import Judge
from services.pair.rows import Row, spread

Tell = Callable[[str, int, int], None]  # what is being done, answers done, answers in all
Key = tuple[str, int]  # method, prompt


@dataclass(frozen=True)
class Plan:
    """What is asked. ``work``: folder of the record."""

    work: Path
    methods: Sequence[Method]
    tasks: Sequence[Task]
    asked: Asked
    knobs: Knobs
    world: World
    calibrated: dict[float | None, Calibrated]  # by alpha; None: where the method names none
    threads: int


@dataclass(frozen=True)
class Outcome:
    """``figures`` by method, in the order that was asked for, and the answers they come from."""

    plan: Plan
    subject: dict[str, Any]
    figures: dict[str, Figures]
    rand_rate: float | None
    rows: dict[str, list[summary.Row]]

    def summary(self) -> dict[str, Any]:
        """For ``--json``."""
        plan = self.plan
        return {
            "methods": {name: summary.to_json(found) for name, found in self.figures.items()},
            **self.subject,
            "prompts": len(plan.tasks),
            "prompts_with_an_answer": sum(t.markable for t in plan.tasks),
            "max_tokens": plan.asked.max_tokens,
            "seed": plan.asked.seed,
            "sampling": plan.asked.sampling.model_dump(),
            "knobs": asdict(plan.knobs),
            "rand_rate": self.rand_rate,
            "link": plan.world.link.model_dump(),
            "device": plan.world.device.model_dump(),
            "server": plan.world.server.model_dump(),
            "deadline_seconds": plan.world.deadline_seconds,
            "threads": plan.threads,
        }


class Journal(Lines[Key, Record]):
    """Records by method and prompt."""

    command = "sluice evaluate"

    def key(self, value: Record) -> Key:
        return value.method, value.prompt

    def to_json(self, value: Record) -> Any:
        return value.to_json()

    def from_json(self, raw: Any) -> Record:
        return Record.from_json(raw)


async def evaluate(subject: Subject, plan: Plan, tell: Tell) -> Outcome:
    """Raises ``ValueError`` with one line where records or methods do not allow it."""
    with Journal(plan.work / "answers.jsonl", _header(subject, plan)) as journal:
        rate = await _Run(subject, plan, journal, tell).run()
        records = dict(journal.found)
    rows = _rows(records, plan, tell)
    missing = "" if similarity.folder() else similarity.MISSING
    figures = summary.summarise(rows, seed=plan.asked.seed, no_likeness=missing)
    about = {"draft": subject.draft.model_dump(), "target": subject.target.model_dump(), "tokenizer": subject.tokenizer_hash}
    return Outcome(plan, about, figures, rate, rows)


class _Run:
    """Prompts in order, all methods of each in one row: what slows the machine for a while slows them all, and methods that
    write the same text share it. Random gating comes last, since its rate is that of another method."""

    def __init__(self, subject: Subject, plan: Plan, journal: Journal, tell: Tell) -> None:
        self._subject, self._plan, self._journal, self._tell = subject, plan, journal, tell
        self._total, self._done = len(plan.tasks) * len(plan.methods), 0

    async def run(self) -> float | None:
        """The rate of random gating, where it was asked for without one."""
        late = [m for m in self._plan.methods if m.label == "rand-hlm"]
        others = [m for m in self._plan.methods if m not in late]
        await self._all(sorted(others, key=lambda m: m.name not in ("llm", "slm")), None)  # others' texts are made of theirs
        if not late:
            return None
        records = [self._journal.found[("u-hlm", n)] for n in range(len(self._plan.tasks))]
        rate = round(sum(r.judged for r in records) / max(1, sum(r.answered - r.bonus for r in records)), 6)
        await self._all(late, rate)
        return rate

    async def _all(self, wanted: Sequence[Method], rate: float | None) -> None:
        def worker(row: Row[Judge]) -> Callable[[int], Awaitable[None]]:
            async def work(prompt: int) -> None:
                for method in wanted:
                    await self._one(row, method, prompt, rate)
                    self._done += 1
                    self._tell("answers", self._done, self._total)

            return work

        await spread(range(len(self._plan.tasks)), [worker(row) for row in self._subject.rows])

    async def _one(self, row: Row[Judge], method: Method, prompt: int, rate: float | None) -> None:
        rule = None if method.name in methods.ALONE else rule_of(method, self._plan, rate)
        mark = "" if rule is None else text_hash(repr(rule))
        found = self._journal.found.get((method.label, prompt))
        if found is not None and found.rule != mark:
            raise JournalError(
                f"{self._journal.path} has answers of {method.label} under another calibration or rate: name another --work "
                "folder"
            )
        if found is None:
            record = await self._write(row, method, prompt, rule)
            right = await asyncio.to_thread(correct, self._plan.tasks[prompt], record.text)
            self._journal.add(replace(record, correct=right, rule=mark))
            await asyncio.sleep(0)  # an interrupt is noticed between answers

    async def _write(self, row: Row[Judge], method: Method, prompt: int, rule: methods.Rule | None) -> Record:
        asked = self._plan.asked
        if rule is not None:
            small = self._journal.found.get(("slm", prompt))
            if small is not None and rule.silent and asked.sampling.greedy and len(self._subject.rows) > 1:
                return silent(self._subject, asked, small, method.label)  # nobody asks how long it takes
            return await write(self._subject, row, asked, prompt, method.label, rule)
        if method.name == "llm":
            return await alone(self._subject, row, asked, prompt)
        return remote(self._subject, asked, self._journal.found[("llm", prompt)])


def rule_of(method: Method, plan: Plan, rate: float | None = None) -> methods.Rule:
    """How ``method`` writes."""
    return methods.rule(method, plan.knobs, plan.calibrated.get(method.value), rate)


def _rows(records: dict[Key, Record], plan: Plan, tell: Tell) -> dict[str, list[summary.Row]]:
    path = similarity.folder()
    sentences = Sentences(path) if path else None
    rows: dict[str, list[summary.Row]] = {}
    for number, method in enumerate(plan.methods, 1):
        patient = method.name in methods.ALONE or rule_of(method, plan, 0.0).patient
        rows[method.label] = [_row(records, method.label, n, plan, patient, sentences) for n in range(len(plan.tasks))]
        tell("figures", number, len(plan.methods))
    return rows


def _row(
    records: dict[Key, Record], label: str, prompt: int, plan: Plan, patient: bool, sentences: Sentences | None
) -> summary.Row:
    record = records[(label, prompt)]
    likeness: Likeness | None = None
    if sentences is not None:
        likeness = sentences.likeness(record.text, records[("llm", prompt)].text)
    return summary.Row(record, modelled.run(record, plan.world, patient=patient, seed=plan.asked.seed), likeness)


def _header(subject: Subject, plan: Plan) -> Header:
    """What the text of an answer depends on; methods, link and profiles are free to change between runs."""
    return {
        "record": "evaluation",
        "draft": subject.draft.model_dump(),
        "target": subject.target.model_dump(),
        "tokenizer": subject.tokenizer_hash,
        "template": subject.template_hash,
        "prompts": text_hash(json.dumps([asdict(task) for task in plan.tasks])),
        "sampling": plan.asked.sampling.model_dump(),
        "max_tokens": plan.asked.max_tokens,
        "seed": plan.asked.seed,
        "knobs": asdict(plan.knobs),
        "threads": plan.threads,
        "parallel": len(subject.rows),
    }
