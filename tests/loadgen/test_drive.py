"""The open loop, with a sender that does nothing, too much, or never ends."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from services.loadgen import report
from services.loadgen.answer import Answer, Outcome
from services.loadgen.arrivals import Arrival, Phase, Schedule
from services.loadgen.drive import Drive
from services.loadgen.sender import Clock


@dataclass
class Deaf:
    """Never answers; ``blocking`` seconds it holds up the whole generator with its first request."""

    blocking: float = 0.0
    numbers: list[int] = field(default_factory=list)

    async def send(self, answer: Answer, number: int, clock: Clock) -> None:
        self.numbers.append(number)
        if self.blocking and len(self.numbers) == 1:
            time.sleep(self.blocking)  # noqa: ASYNC251 - that is the fault
        await asyncio.Event().wait()


class Prompt:
    """Answers at once."""

    async def send(self, answer: Answer, number: int, clock: Clock) -> None:
        answer.take('data: {"sluice":{"tokens":[{"decision":"skipped"}]}}', clock())
        counts = {"skipped": 1, "accepted": 0, "corrected": 0, "bonus": 0, "unverified": 0, "total": 1}
        answer.take(f'data: {{"sluice":{{"tokens":{counts}}}}}'.replace("'", '"'), clock())
        answer.end(clock())


ARRIVALS = [Arrival(0.01 * n, n % 3) for n in range(30)]
SCHEDULE = Schedule([Phase(0.0, 100.0)], 0.3)


async def test_a_system_that_never_answers_is_asked_no_less() -> None:
    sender = Deaf()
    drive = Drive(ARRIVALS, sender, duration=0.3, drain_seconds=0.05)
    assert await drive.run(asyncio.Event())
    assert sender.numbers == list(range(30))
    assert [a.due for a in drive.answers] == [a.at for a in ARRIVALS]
    assert {a.outcome for a in drive.answers} == {Outcome.RUNNING}
    assert report.figures(drive.answers)["answers"]["unfinished"] == 30
    assert drive.running == 0, "what did not end was broken off"


async def test_late_starts_are_told_and_waiting_counts_from_when_it_was_due() -> None:
    class Slow(Prompt):
        async def send(self, answer: Answer, number: int, clock: Clock) -> None:
            if number == 0:
                time.sleep(0.2)  # noqa: ASYNC251 - that is the fault
            await super().send(answer, number, clock)

    drive = Drive(ARRIVALS, Slow(), duration=0.3, drain_seconds=5.0)
    assert await drive.run(asyncio.Event())
    found = report.summarise(drive.answers, SCHEDULE, drive.now)
    assert found["answers"]["complete"] == 30
    held_up = [a for a in drive.answers if 0.01 <= a.due < 0.14]
    assert found["late_starts"]["count"] >= len(held_up)
    assert all(a.first_token_seconds is not None and a.first_token_seconds >= 0.19 - a.due for a in held_up)
    assert found["late_starts"]["max_seconds"] >= 0.18


async def test_a_stop_ends_it_at_once() -> None:
    stop, sender = asyncio.Event(), Deaf()
    drive = Drive([Arrival(0.0, 0), Arrival(3600.0, 0)], sender, duration=7200.0, drain_seconds=7200.0)
    running = asyncio.create_task(drive.run(stop))
    while not sender.numbers:  # noqa: ASYNC110 - the sender tells nobody
        await asyncio.sleep(0.001)
    stop.set()
    assert await running is False
    assert [a.outcome for a in drive.answers] == [Outcome.RUNNING]


async def test_the_end_waits_for_answers_that_run() -> None:
    class Later(Prompt):
        async def send(self, answer: Answer, number: int, clock: Clock) -> None:
            await asyncio.sleep(0.1)
            await super().send(answer, number, clock)

    drive = Drive([Arrival(0.0, 0)], Later(), duration=0.01, drain_seconds=30.0)
    assert await drive.run(asyncio.Event())
    assert drive.answers[0].outcome is Outcome.COMPLETE
