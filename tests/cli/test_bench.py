"""The measuring commands: the search for a damage, and a whole small run on the default pair."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.bench import prompts
from services.cli.bench.damage import Curve, corrected
from services.cli.errors import CommandError
from services.edge_worker.signals import Signal
from tests.lm.conftest import tiny_folder as tiny_folder

PAIRS = [(0.1, 0.0), (0.3, 0.1), (0.5, 0.3), (0.9, 0.6)]


def test_a_threshold_does_the_damage_it_was_chosen_for() -> None:
    curve = Curve.of(PAIRS[::-1], 10)
    assert curve.damage(0.5) == pytest.approx(0.04)
    assert curve.threshold(0.04) == 0.5
    assert curve.threshold(0.039) == 0.3
    assert curve.threshold(0.0) == 0.1
    assert curve.threshold(1.0) == 1.0


def test_a_run_that_did_too_much_lowers_the_threshold() -> None:
    curve = Curve.of(PAIRS, 10)
    assert corrected(curve, 0.04, 0.5, measured=0.08) < 0.5
    assert corrected(curve, 0.04, 0.5, measured=0.01) > 0.5
    assert corrected(curve, 0.04, 0.5, measured=0.0) >= 0.5


def test_prompts_are_read_from_both_kinds_of_file(tmp_path: Path) -> None:
    file = tmp_path / "p"
    file.write_text('{"prompt": "a b"}\n\nplain\n')
    assert prompts.read(file) == ["a b", "plain"]
    file.write_text('{"text": 1}')
    with pytest.raises(CommandError, match="field 'prompt'"):
        prompts.read(file)
    with pytest.raises(CommandError, match="cannot be read"):
        prompts.read(tmp_path / "none")


@pytest.mark.timeout(600)
def test_bench_single_measures_the_default_pair(tmp_path: Path) -> None:
    file = tmp_path / "prompts"
    file.write_text("What is a cat?\nName two rivers.\n")
    command = [
        sys.executable,
        "-m",
        "services.cli",
        "bench",
        "single",
        "--draft",
        "smollm2-135m-draft",
        "--target",
        "smollm2-135m",
    ]
    options = ["--prompts", str(file), "--limit", "1", "--max-tokens", "16", "--greedy-prompts", "1", "--json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    speeds = result["tokens_per_second"]
    assert set(speeds) == {"slm_only", "llm_only", "assisted", "lossless", "opportunistic"}
    assert set(speeds["opportunistic"]) == {"0.03", "0.06", "0.12"}
    assert all(v > 0 for v in [*speeds["opportunistic"].values(), *(v for k, v in speeds.items() if k != "opportunistic")])
    assert result["lossless_equals_target"] is True
    assert result["measured"]["lossless"]["damage"] == 0
    assert result["machine"]["cores"] >= 1


@pytest.mark.timeout(120)
def test_distill_takes_its_folder_and_refuses_layers_that_are_not_there(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "services.cli", "distill", str(tmp_path / "draft"), "--keep", "0,99"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "has layers 0 to 29" in done.stderr


def test_bench_gate_names_every_cost_and_a_missing_layer(tiny_folder: Path) -> None:
    command = [sys.executable, "-m", "services.cli", "bench", "gate", "--draft", str(tiny_folder), "--json", "--threads", "1"]
    done = subprocess.run([*command, "--context", "32", "--steps", "8"], capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    names = {s.value for s in Signal} | {"importance", "all_signals", "all_signals_and_importance"}
    assert set(result["share_of_a_step"]) == set(result["seconds"]) == names
    assert all(share > 0 for share in result["share_of_a_step"].values())
    refused = subprocess.run([*command, "--layer", "2"], capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "choose a layer below 2" in refused.stderr
    assert "Traceback" not in refused.stderr
