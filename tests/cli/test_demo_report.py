"""The demo's figures from answers with known accounts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.cli.demo_report import Report, Timed


def answer(seconds: float, damage: float, **tokens: int) -> Timed:
    counts = {name: tokens.get(name, 0) for name in ("skipped", "accepted", "corrected", "bonus", "unverified")}
    total = sum(counts.values())
    summary: dict[str, Any] = {
        "mode": "opportunistic",
        "tokens": {**counts, "total": total},
        "rounds": 2,
        "judged": counts["accepted"] + counts["corrected"],
        "damage": damage,
    }
    return Timed(summary, total, seconds)


REPORT = Report(
    answers=[
        answer(2.0, 0.1, skipped=6, accepted=2, corrected=1, bonus=1),
        answer(1.0, 0.3, skipped=10, accepted=4, corrected=3, bonus=2, unverified=1),
    ],
    slm_only=[Timed({}, 50, 1.0)],
    llm_only=[Timed({}, 30, 1.0), Timed({}, 10, 1.0)],
    uplink_bytes=600,
    uplink_source="",
    lag_p99_seconds={"edge_worker": 0.004, "verifier": None},
)


def test_rates_are_over_all_answered_tokens() -> None:
    figures = REPORT.as_json()
    assert figures["tokens"] == {"skipped": 16, "accepted": 6, "corrected": 4, "bonus": 3, "unverified": 1, "total": 30}
    assert figures["rounds"] == 4
    assert figures["passes_per_token"] == pytest.approx(4 / 30, abs=1e-6)
    assert figures["uplink_bytes_per_token"] == 20
    assert figures["upload_rate"] == pytest.approx(10 / 30, abs=1e-6)
    assert figures["acceptance"] == 0.6
    assert figures["damage"] == pytest.approx((0.1 * 10 + 0.3 * 20) / 30, abs=1e-6)
    assert figures["tokens_per_second"] == {"sluice": 10.0, "llm_only": 20.0, "slm_only": 50.0}


def test_the_object_has_the_promised_keys() -> None:
    assert set(json.loads(json.dumps(REPORT.as_json()))) == {
        "answers", "mode", "tokens", "rounds", "passes_per_token", "uplink_bytes", "uplink_bytes_per_token", "upload_rate",
        "damage", "acceptance", "tokens_per_second", "loop_lag_p99_seconds", "leftover_processes", "outage",
    }  # fmt: skip


def test_a_lower_speed_is_explained_with_what_is_saved() -> None:
    said = REPORT.verdict()
    assert "0.50 times as fast" in said
    assert "slow, far or shared" in said
    assert "87% of the LLM's forward passes" in said


def test_a_higher_speed_needs_no_excuse() -> None:
    report = Report(REPORT.answers, REPORT.slm_only, [Timed({}, 10, 2.0)], 600, "", {})
    assert "2.00 times as fast" in report.verdict()
    assert "slow, far" not in report.verdict()
