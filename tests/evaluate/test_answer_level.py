"""The method answer-level: what it needs, and what an answer costs that asks about nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from services.cli.errors import CommandError
from services.common.calibration import files
from services.common.calibration.answer_level import AnswerRule
from tests.evaluate.test_run import calibration, run

RULE = AnswerRule(  # predicts the mean uncertainty of four tokens
    decide_tokens=4,
    centre=(0.0,) * 4,
    scale=(1.0,) * 4,
    weights=(0.0, 1.0, 0.0, 0.0),
    intercept=0.0,
    knots_threshold=(0.0, 0.3),
    knots_damage=(0.0, 0.55),
    turn=2.0,
)


def test_answers_that_ask_nothing_cost_nothing(tmp_path: Path) -> None:
    found = asyncio.run(calibration(tmp_path / "calibrate"))
    file, work = tmp_path / "calibration.json", tmp_path / "work"
    files.save(found, file)
    prompts = tmp_path / "prompts.jsonl"  # not the made ones, which may change
    prompts.write_text("".join(json.dumps({"prompt": f"Name {n} things."}) + "\n" for n in range(8)))
    asked = ["--prompts", str(prompts), "--calibration", str(file), "--work", str(work), "--json"]
    asked += ["--methods", "calibrated@0.03,answer-level@0.03"]
    with pytest.raises(CommandError, match="--answer-level"):
        run(*asked)
    policy = found.policy.model_copy(update={"answer_level": RULE})
    files.save(found.model_copy(update={"policy": policy}), file)
    figures = json.loads(run(*asked))["methods"]
    plain, whole = figures["calibrated@0.03"], figures["answer-level@0.03"]
    for cost in ("upload_rate", "uplink_bytes_per_token", "llm_passes_per_token", "llm_tokens_per_token"):
        assert whole[cost]["value"] < plain[cost]["value"]
    records = [json.loads(line) for line in (work / "answers.jsonl").read_text().splitlines()[1:]]
    mine = [r for r in records if r["method"] == "answer-level@0.03"]
    silent = [r for r in mine if not r["open_bytes"]]
    assert 0 < len(silent) < len(mine)
    assert all(not r["exchanges"] and r["prompt_fed"] == r["judged"] == 0 for r in silent)
    assert all(r["prompt_fed"] > 0 for r in mine if r not in silent)
