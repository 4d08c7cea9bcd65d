"""What a stream of server-sent events counts as, and the figures made of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.loadgen import report
from services.loadgen.answer import Answer, Malformed, Outcome
from services.loadgen.arrivals import Phase, Schedule


def line(**sluice: Any) -> str:
    return "data: " + json.dumps({"choices": [], "sluice": sluice})


def tokens(*decisions: str) -> str:
    return line(tokens=[{"text": "x", "decision": decision} for decision in decisions])


def account(**counts: int) -> str:
    names = ("skipped", "accepted", "corrected", "bonus", "unverified")
    return line(tokens={name: counts.get(name, 0) for name in names} | {"total": sum(counts.values())})


def test_tokens_are_counted_by_decision_and_time() -> None:
    answer = Answer(due=1.0, client=0, begun=1.25)
    for second, text in ((2.0, tokens("skipped")), (3.0, tokens("accepted", "bonus")), (5.0, tokens("corrected"))):
        answer.take(text, second)
        answer.take("", second)
    answer.take(": a comment", 5.0)
    answer.take(account(skipped=1, accepted=1, bonus=1, corrected=1), 5.5)
    answer.take("data: [DONE]", 5.5)
    answer.end(6.0)
    assert answer.outcome is Outcome.COMPLETE
    assert answer.decisions == {"skipped": 1, "accepted": 1, "bonus": 1, "corrected": 1, "unverified": 0}
    assert answer.first_token_seconds == 1.0, "from when it was due"
    assert answer.token_seconds == 1.0, "three gaps in three seconds"
    assert answer.late_seconds == 0.25


def test_a_stream_that_breaks_off_keeps_its_tokens_and_has_failed() -> None:
    answer = Answer(0.0, 0, 0.0)
    answer.take(tokens("skipped", "skipped"), 1.0)
    answer.end(2.0)
    assert answer.outcome is Outcome.FAILED
    assert "without the account" in answer.error
    assert answer.decisions["skipped"] == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('data: {"error":{"message":"no verifier"}}', "broke off: no verifier"),
        ("data: {", "no chunk"),
        ("data: 7", "no chunk"),
        ('data: {"sluice":{"tokens":[{}]}}', "no chunk"),
        ('data: {"sluice":{"tokens":{"skipped":1}}}', "no chunk"),
    ],
)
def test_what_is_no_answer_is_told(text: str, says: str) -> None:
    with pytest.raises(Malformed, match=says):
        Answer(0.0, 0, 0.0).take(text, 1.0)


def ended(due: float, outcome: Outcome, *, first: float = 0.0, error: str = "") -> Answer:
    answer = Answer(due, 0, due)
    if outcome is Outcome.COMPLETE:
        answer.take(tokens("skipped"), due + first)
        answer.take(tokens("unverified"), due + first + 0.5)
        answer.take(account(skipped=1, unverified=1), due + first + 0.5)
    answer.end(due + first + 1.0, outcome, error)
    return answer


def test_figures_by_outcome_phase_and_second() -> None:
    complete = [ended(0.1 * n, Outcome.COMPLETE, first=0.01 * n) for n in range(101)]
    refused = [ended(15.0 + n, Outcome.REFUSED, error="all sessions are in use") for n in range(3)]
    running = Answer(18.5, 0, 18.5)
    schedule = Schedule([Phase(0.0, 10.0), Phase(12.0, 0.5)], 20.0)
    found = report.summarise([*complete, *refused, running], schedule, 20.0)
    assert found["answers"] == {"offered": 105, "complete": 101, "refused": 3, "failed": 0, "unfinished": 1}
    assert [p["answers"]["offered"] for p in found["phases"]] == [101, 4]
    assert found["seconds"]["first_token"] == {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    assert found["seconds"]["per_token"]["p50"] == 0.5
    assert found["phases"][1]["seconds"]["first_token"] == {"p50": None, "p90": None, "p99": None}
    assert found["tokens"] == {"skipped": 101, "accepted": 0, "corrected": 0, "bonus": 0, "unverified": 101, "total": 202}
    assert found["tokens_per_second"] == 202 / 20.0
    assert found["errors"] == {"all sessions are in use": 3}
    times = found["timeline"]
    assert sum(times["due"]) == 105
    assert times["due"][15:18] == times["lost"][15:18] == [1, 1, 1]
    assert sum(times["tokens"]) == 202
    assert times["running"][19] == 1
    assert times["running"][14] == 0


def test_nothing_offered_gives_no_figures() -> None:
    found = report.summarise([], Schedule([Phase(0.0, 0.0)], 5.0), 5.0)
    assert found["answers"]["offered"] == 0
    assert found["seconds"]["answer"]["p50"] is None
    assert found["timeline"]["due"] == [0] * 5
