"""Inputs as a healthy fleet of one class gives them, to be changed by each test."""

from __future__ import annotations

import numpy as np

from services.policy.inputs import ClassInputs, Inputs, Reading, Scores

EDGES = np.linspace(0.0, 1.0, 21)


def scores(rejection: float = 1.0, rate: float = 200.0) -> Scores:
    """Every score as likely as any other, rejected half as often as it says, times ``rejection``; gated at 0.5."""
    middle = (EDGES[:-1] + EDGES[1:]) / 2
    drafted = np.full(20, rate / 20)
    beta = np.minimum(1.0, 0.5 * middle * rejection)
    skipped = middle < 0.5
    return Scores(
        EDGES, drafted, drafted * skipped, drafted * skipped * beta, drafted * ~skipped * 0.8, drafted * ~skipped * 0.8 * beta
    )


def inputs(
    now: float, *, rejection: float = 1.0, utilisation: float = 0.4, age: float = 1.0, name: str = "default", **own: float
) -> Inputs:
    """Twenty devices that answer 150 tokens a second in 60 rounds; ``own``: readings of the class instead."""
    values = {
        "devices": 20.0,
        "devices_mean": 20.0,
        "tokens_per_second": 150.0,
        "rounds_per_second": 60.0,
        "draft_seconds": 0.04,
        "round_trip_seconds": 0.12,
        "round_trip_p95_seconds": 0.2,
        "queue_seconds": 0.01,
        "verify_seconds": 0.04,
        "drafting_joules_per_second": 30.0,
        "asking_joules_per_second": 3.0,
    } | own
    pool = {"utilisation": utilisation, "watts": 500.0, "verifiers": 4.0, "verifiers_mean": 4.0}
    pool["verdicts_per_second"] = values["rounds_per_second"]
    return Inputs(
        now,
        {n: Reading(v, age) for n, v in pool.items()},
        {name: ClassInputs({n: Reading(v, age) for n, v in values.items()}, scores(rejection))},
    )
