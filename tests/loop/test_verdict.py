"""What counts as seen, on runs that were made up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.cli.loop import plot
from services.cli.loop.command import describe
from services.cli.loop.plan import FLEETS, Times
from services.cli.loop.plot import Run
from services.cli.loop.series import Series
from services.cli.loop.verdict import Turn, at_time, changes, verdict
from services.common.rng import Floats

FLEET = replace(FLEETS["synthetic"], utilisation=0.8, damage=0.1)
TIMES = Times(before=60.0, step=100.0, after=100.0, away=100.0, back=40.0)
AT = np.arange(0.0, TIMES.end, 5.0)
AWAY = (260.0, 360.0)


def series(utilisation: Floats, upload: Floats) -> Series:
    same = np.ones_like(AT)
    return Series(AT, utilisation, 0.2 * same, 0.05 * same, upload, 10.0 * same, 0.0 * same, 4.0 * same, 5.0 * same)


def step(before: float, during: float, after: float) -> Floats:
    """A sample stands for the time before it."""
    parts = [(TIMES.up_at, before), (TIMES.down_at, during)]
    return np.array([next((value for end, value in parts if at <= end), after) for at in AT])


def turn(at: float, gamma: float, source: str = "control", k: int = 2) -> Turn:
    return Turn(at, k, gamma, source, "why")


TURNS = [
    turn(0.0, 0.5),
    turn(70.0, 0.9),
    turn(120.0, 0.9),
    turn(200.0, 0.5),
    turn(261.0, 0.5, "hold"),
    turn(321.0, 1.0, "safe", k=4),
    turn(372.0, 0.6),
]


def good() -> Series:
    utilisation = step(0.3, 0.7, 0.3)
    utilisation[(AT >= 65.0) & (AT < 90.0)] = 0.95
    return series(utilisation, step(0.4, 0.2, 0.4))


def test_a_good_run() -> None:
    found = verdict(good(), TURNS, FLEET, TIMES, AWAY)
    assert found["failures"] == []
    assert (found["broken_after_seconds"], found["recovery_seconds"]) == (5.0, 30.0)
    assert (found["overshoot"], found["share_over"], found["peak"]) == (0.0, 0.0, 0.95)
    assert found["steady"]["before"]["gamma"] == 0.5
    assert found["steady"]["step"]["gamma"] == 0.9
    assert (found["upload_rate_fell_by"], found["upload_rate_rose_again_by"]) == (0.5, 1.0)
    assert found["damage_max_relative_to_limit"] == 0.5
    assert found["direction_changes_per_minute"] == {"k": 0.0, "gamma": 0.0}
    assert found["prometheus_away"] == {
        "held_after_seconds": 1.0,
        "held_knobs_stayed": True,
        "safe_after_seconds": 61.0,
        "safe": {"k": 4, "gamma": 1.0},
        "resumed_after_seconds": 12.0,
    }


def test_an_excess_after_the_recovery_is_told() -> None:
    one = good()
    one.utilisation[AT == 120.0] = 0.88
    found = verdict(one, TURNS, FLEET, TIMES, AWAY)
    assert found["recovery_seconds"] == 30.0
    assert found["overshoot"] == pytest.approx(0.1)
    assert found["share_over"] == pytest.approx(1 / 15, abs=1e-4)


def test_a_step_that_breaks_nothing() -> None:
    found = verdict(series(step(0.3, 0.7, 0.3), step(0.4, 0.2, 0.4)), TURNS, FLEET, TIMES, None)
    assert (found["broken_after_seconds"], found["recovery_seconds"], found["overshoot"]) == (None, 0.0, 0.0)
    assert found["failures"] == []


def test_a_budget_that_is_never_met_again_and_knobs_that_stay_are_failures() -> None:
    one = series(step(0.3, 0.95, 0.3), step(0.4, 0.4, 0.4))
    held = [turn(0.0, 0.5), turn(261.0, 0.5, "hold"), turn(290.0, 0.7, "hold")]
    found = verdict(one, held, FLEET, TIMES, AWAY)
    assert found["recovery_seconds"] is None
    assert [line.split(",")[0].split(":")[-1].strip() for line in found["failures"]] == [
        "the step broke the utilisation budget",
        "the upload rate did not fall in the step",
        "the upload rate did not rise again after the step",
        "no safe_after_seconds",
        "no resumed_after_seconds",
        "the knobs moved before the safe setting",
    ]


def test_turns_back_and_forth_are_counted() -> None:
    shaking = [turn(0.0, 0.5), *(turn(101.0 + 5.0 * n, 0.5 + 0.2 * (n % 2)) for n in range(11))]
    found = verdict(good(), shaking, FLEET, TIMES, None)
    assert found["direction_changes_per_minute"]["gamma"] == 9.0, "nine in the steady minute"
    assert "prometheus_away" not in found


def test_decisions_in_force_and_those_that_changed_something() -> None:
    assert at_time(TURNS, -1.0) is None
    assert at_time(TURNS, 130.0) == TURNS[2]
    assert [t.at for t in changes(TURNS)] == [0.0, 70.0, 200.0, 261.0, 321.0, 372.0]


def test_the_verdict_and_the_picture(tmp_path: Path) -> None:
    """The words for people hold its figures; the picture is drawn, also with times at which nothing is known."""
    one = good()
    one.utilisation[(AT > 265.0) & (AT < 365.0)] = np.nan
    answers = {"offered": 9, "complete": 8, "refused": 1, "failed": 0, "unfinished": 0}
    bins = int(TIMES.end)
    load = {
        "answers": answers,
        "phases": [{"from": p.at, "rate": p.rate} for p in TIMES.schedule(1.0).phases],
        "timeline": {"bin_seconds": 1.0, "due": [1] * bins, "running": [3] * bins},
    }
    found = {
        "verdict": verdict(one, TURNS, FLEET, TIMES, AWAY),
        "load": load,
        "alerts": [{"name": "SluiceLinkDown", "at": 300.0}],
        "leftover_processes": 0,
    }
    text = describe(json.loads(json.dumps(found)))
    assert "left its budget of 0.8 5 s after the step, rose to 0.95, and was inside it again 30 s after the step" in text
    assert "safe setting {'k': 4, 'gamma': 1.0} after 61.0 s" in text
    assert "8 of 9 answers complete, 1 refused" in text
    assert "SluiceLinkDown (300 s)" in text
    plot.save(Run(FLEET, TIMES, one, TURNS, [], load, AWAY), tmp_path / "loop.png", "made up")
    assert (tmp_path / "loop.png").read_bytes().startswith(b"\x89PNG")
