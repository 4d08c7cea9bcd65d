"""`sluice calibrate` as a user runs it, on the default pair (about 20 s: two models are loaded, 13 short answers written)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from services.common.calibration import files

PROMPTS = ["Name a colour.", "What is 7 + 5?", "Who wrote Hamlet?", "Say hello.", "Name a season.", "What is a noun?"]


def sluice(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.cli", "calibrate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calibrate") / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": p}) + "\n" for p in PROMPTS))
    return path


@pytest.mark.timeout(400)  # 12 s of work; a busy machine was seen to take six times that
def test_the_default_pair_in_a_few_answers(prompts: Path) -> None:
    work, out, report = (prompts.parent / name for name in ("work", "calibration.json", "report.html"))
    options = ["--work", str(work), "--out", str(out), "--report", str(report), "--max-tokens", "8", "--grid", "2"]
    done = sluice("--prompts", str(prompts), "--alpha", "0.9", "--threads", "1", "--json", *options)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["guaranteed"] is False
    assert result["prompts"] == {"fit": 1, "calibration": 4, "evaluation": 1}
    found = files.load(out)
    assert found.draft.revision
    assert found.target.revision
    assert found.policy.signal == "one_minus_max"
    assert set(found.predictor.signals) == {"one_minus_max", "entropy", "margin", "temperature_perturbation"}
    assert report.read_text().count("data:image/png") == 4
    for name, answers in (("fit", 1), ("calibration", 8)):
        header, *lines = (json.loads(line) for line in (work / f"{name}.jsonl").read_text().splitlines())
        assert header["tokenizer"] == found.tokenizer_hash
        assert len(lines) == answers
        for line in lines:
            assert 0.0 <= line["damage"] <= 1.0
            damage = sum(a for a, flagged in zip(line["audit"], line["flagged"], strict=True) if not flagged)
            assert line["damage"] == pytest.approx(damage / line["answered"], abs=1e-5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--alpha", "1.5"], "between 0 and 1"),
        (["--signal", "mood"], "one_minus_max"),
        (["--method", "luck"], "learn_then_test"),
        (["--pair", "nobody"], "smollm2-135m"),
        (["--decide-tokens", "4"], "add --answer-level"),
        (["--answer-level", "--max-tokens", "4"], "lower --decide-tokens"),
    ],
)
def test_wrong_options_are_told_in_one_line(prompts: Path, options: list[str], says: str) -> None:
    done = sluice("--prompts", str(prompts), *options)
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1]


def test_the_synthetic_pair_is_calibrated_by_the_command(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("".join(f"prompt {n}\n" for n in range(12)))
    out = tmp_path / "calibration.json"
    pair = ["--draft", "synthetic", "--target", "synthetic", "--prompts", str(prompts), "--max-tokens", "8", "--grid", "2"]
    done = sluice(*pair, "--work", str(tmp_path / "work"), "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["prompts"]["calibration"] == 7
    assert set(found["damage_at_equal_skip_rate"]) == {"one_minus_max", "calibrated"}
    assert out.exists()
