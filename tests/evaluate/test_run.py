"""`sluice evaluate` from the command line to its report, on the synthetic pair."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.calibrate.run import calibrate
from services.cli.errors import CommandError
from services.cli.main import app
from services.common.calibration import files
from services.common.synthetic import DRAFT_NOISE, TOKENIZER_HASH
from services.evaluate.summary import SOURCES
from tests.calibrate import exact

METHODS = "llm,remote-llm,slm,hlm,rand-hlm,u-hlm,ui-hlm,lossless,fixed-k,u-hlm@1"
COMMAND = ["evaluate", "--draft", "synthetic", "--target", "synthetic", "--signal", "one_minus_max", "--tau", "0.5"]
CONTRACT = {
    "upload_rate",
    "exact_match",
    "exact_match_relative_to_llm",
    "cosine",
    "bertscore",
    "tokens_per_second",
    "uplink_bytes_per_token",
    "energy_joules_per_token",
    "energy_relative_to_llm",
    "damage",
}
SIZE = ["--limit", "8", "--max-tokens", "16", "--threads", "1", "--methods", METHODS]


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, [*COMMAND, *SIZE, *arguments])
    if result.exception:
        raise result.exception
    return result.stdout


def test_all_methods_on_the_same_prompts(tmp_path: Path) -> None:
    work, page = tmp_path / "work", tmp_path / "out" / "report.md"
    found = json.loads(run("--work", str(work), "--report", str(page), "--json"))
    figures = found["methods"]
    assert list(figures) == METHODS.split(",")

    def value(method: str, name: str) -> float:
        figure = figures[method][name]
        assert figure["low"] - 1e-9 <= figure["value"] <= figure["high"] + 1e-9
        return float(figure["value"])

    for method in figures.values():
        assert list(method) == list(SOURCES)
    # who asks about what
    assert value("hlm", "upload_rate_of_drafted") == value("fixed-k", "upload_rate_of_drafted") == 1.0
    assert value("slm", "upload_rate") == value("slm", "uplink_bytes_per_token") == value("slm", "llm_passes_per_token") == 0.0
    assert 0.0 < value("u-hlm", "upload_rate_of_drafted") < 1.0
    assert value("rand-hlm", "upload_rate_of_drafted") == pytest.approx(value("u-hlm", "upload_rate_of_drafted"), abs=0.12)
    assert value("ui-hlm", "upload_rate") < value("u-hlm", "upload_rate")
    # damage: none where all is judged; skipping all, the total variation of the two laws
    for method in ("llm", "remote-llm", "hlm", "lossless", "fixed-k"):
        assert value(method, "damage") == 0.0
    assert value("slm", "damage") == pytest.approx(DRAFT_NOISE, abs=0.1)
    assert value("u-hlm", "damage") < value("slm", "damage")
    assert value("u-hlm@1", "damage") == value("slm", "damage")  # the same tokens, since the same draws
    # costs
    assert value("llm", "llm_passes_per_token") == 1.0
    assert value("fixed-k", "llm_passes_per_token") < value("hlm", "llm_passes_per_token") < 1.0
    assert value("remote-llm", "uplink_bytes_per_token") < value("u-hlm", "uplink_bytes_per_token")
    assert value("llm", "energy_relative_to_llm") == value("hlm", "energy_relative_to_hlm") == 1.0
    assert value("slm", "radio_joules_per_token") == 0.0
    assert value("remote-llm", "server_joules_per_token") == pytest.approx(value("llm", "server_joules_per_token"))
    _the_report(page, found)
    _the_crossover(work, tmp_path / "out" / "where.png", found)
    _goes_on(work, found)


def _the_report(page: Path, found: dict[str, Any]) -> None:
    text = page.read_text()
    assert "| upload rate |" in text
    assert "Modelled" in text
    for plot in ("report-quality-upload.png", "report-energy-quality.png"):
        assert plot in text
        assert (page.parent / plot).read_bytes().startswith(b"\x89PNG")
    assert "### At an upload rate of 0.386" in text
    assert json.loads(page.with_suffix(".json").read_text()) == found
    assert set(found["methods"]["hlm"]) >= CONTRACT
    curve = found["comparisons"][0]
    assert (curve["axis"], curve["value"], curve["reference"], list(curve["families"])) == (
        "upload_rate",
        0.386,
        "u-hlm",
        ["u-hlm"],
    )


def _the_crossover(work: Path, plot: Path, found: dict[str, Any]) -> None:
    """Out of the same answers: none is written again."""
    answers = (work / "answers.jsonl").read_bytes()
    again = json.loads(run("--work", str(work), "--crossover", str(plot), "--at-rate", "0.4", "--json"))
    assert (work / "answers.jsonl").read_bytes() == answers
    assert again["comparisons"][0]["value"] == 0.4
    assert again["methods"] == found["methods"]
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert json.loads(plot.with_suffix(".json").read_text()) == again["crossover"]
    cells = again["crossover"]["sweeps"][2]["cells"]
    assert list(cells) == ["remote-llm", "hlm", "u-hlm", "ui-hlm", "lossless", "fixed-k"]
    assert cells["u-hlm"][-1]["unverified"] > 0.0
    assert cells["lossless"][-1]["unverified"] == 0.0
    assert "## Capacity of one server" in plot.with_suffix(".md").read_text()


def _goes_on(work: Path, found: dict[str, object]) -> None:
    """A record that was cut off is completed; what was counted does not change, and the table is printed."""
    file = work / "answers.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:30]) + lines[30][:20])
    again = json.loads(run("--work", str(work), "--json"))
    methods, before = again["methods"], found["methods"]
    assert isinstance(before, dict)
    for name, figures in methods.items():
        for key, figure in figures.items():
            assert key == "tokens_per_second" or figure == before[name][key]
    assert "J/token" in run("--work", str(work))
    with pytest.raises(CommandError, match="other knobs"):
        run("--work", str(work), "--k", "3")


def test_a_method_that_flags_nothing_takes_the_small_models_text(tmp_path: Path) -> None:
    """What is made out of the record of ``slm`` is what the method itself writes where ``slm`` is not asked for."""
    silent = ["u-hlm@1", "ui-hlm@1", "rand-hlm@0"]

    def answers(name: str, methods: list[str]) -> dict[tuple[str, int], dict[str, Any]]:
        run("--work", str(tmp_path / name), "--parallel", "4", "--methods", ",".join(methods), "--json")
        lines = (tmp_path / name / "answers.jsonl").read_text().splitlines()[1:]
        return {(record["method"], record["prompt"]): record for record in map(json.loads, lines)}

    made, written = answers("made", [*silent, "slm"]), answers("written", silent)
    assert len(written) == 8 * (len(silent) + 1)
    assert all(made[key] == record for key, record in written.items())
    assert all(made["u-hlm@1", n]["open_bytes"] > made["slm", n]["open_bytes"] == 0 for n in range(8))
    assert list(made).index(("slm", 0)) < list(made).index(("u-hlm@1", 0))


async def calibration(work: Path) -> files.Calibration:
    """Made on the exact engine, then said to be of the synthetic pair: thresholds mean the same there."""
    outcome = await calibrate(exact.subject(40), exact.plan(work, grid=2, alphas=(0.03, 0.4)), lambda *_: None)
    model = files.Model(reference="synthetic", revision="synthetic", weights="hash")
    own = {"draft": model, "target": model, "tokenizer_hash": TOKENIZER_HASH, "template_hash": files.text_hash("")}
    thresholds = (
        files.Threshold(alpha=0.03, conformal=0.3),
        files.Threshold(alpha=0.4, conformal=0.8),
        files.Threshold(alpha=0.01),
    )
    return outcome.calibration.model_copy(update={**own, "thresholds": thresholds})


def test_a_calibration_brings_its_threshold(tmp_path: Path) -> None:
    found = asyncio.run(calibration(tmp_path / "calibrate"))
    file, work = tmp_path / "calibration.json", ["--work", str(tmp_path / "work")]
    files.save(found, file)
    names = "calibrated,calibrated@0.4,calibrated@0.01"
    asked = ["--calibration", str(file), "--methods", names, *work, "--json"]
    figures = json.loads(run(*asked, "--alpha", "0.03"))["methods"]
    assert list(figures) == ["llm", *names.split(",")]
    strict, loose, always = (figures[name] for name in names.split(","))
    assert strict["damage"]["value"] < loose["damage"]["value"]
    assert strict["upload_rate"]["value"] > loose["upload_rate"]["value"]
    assert always["damage"]["value"] == 0.0  # no threshold of the file passes at this alpha
    with pytest.raises(CommandError, match="another calibration"):
        run(*asked, "--alpha", "0.4")
    with pytest.raises(CommandError, match="--alpha: choose one of"):
        run(*asked)
    files.save(found.model_copy(update={"tokenizer_hash": "other"}), file)
    with pytest.raises(CommandError, match="another tokenizer"):
        run(*asked, "--alpha", "0.03")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--methods", "llm,telepathy"], "unknown method"),
        (["--methods", "answer-level"], "needs --calibration"),
        (["--methods", "calibrated"], "needs --calibration"),
        (["--link", "moon"], "there is no link 'moon'"),
        (["--signal", "entropy"], "know one signal"),
        (["--importance", "none"], "choose received or binding"),
        (["--prompts", "missing.jsonl"], "cannot be read"),
        (["--crossover", "where.txt"], "ends in .png"),
        (["--methods", "u-hlm:calibrated@0.3"], "needs a --calibration"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(arguments: list[str], says: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=says) as caught:
        run("--work", str(tmp_path), *arguments)
    assert "\n" not in str(caught.value)
