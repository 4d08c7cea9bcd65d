"""A whole calibration on the exact engine: records, resumption, file, report, and what the file then promises."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.calibrate.journal import JournalError
from services.calibrate.report import page
from services.calibrate.run import Outcome, calibrate
from services.common.calibration import files
from services.common.sampling import Sampling
from tests.calibrate import exact


async def run(work: Path, prompts: int, told: list[tuple[str, int, int]] | None = None, **changes: Any) -> Outcome:
    heard: list[tuple[str, int, int]] = [] if told is None else told
    return await calibrate(exact.subject(prompts), exact.plan(work, **changes), lambda *step: heard.append(step))


@pytest.mark.parametrize("signal", ["one_minus_max", "calibrated"])
async def test_a_calibration_is_written_read_and_shown(tmp_path: Path, signal: str) -> None:
    policy = exact.POLICY.model_copy(update={"signal": signal})
    told: list[tuple[str, int, int]] = []
    outcome = await run(tmp_path / "work", 240, told, policy=policy, grid=2)
    found = outcome.calibration
    assert found.guaranteed
    assert found.prompts == {"fit": 20, "calibration": 200, "evaluation": 20}
    assert ("calibration", 400, 400) in told
    path = tmp_path / "calibration.json"
    files.save(found, path)
    assert files.load(path) == found
    html = page(outcome)
    assert html.count("data:image/png;base64,") == 4
    assert "http" not in html  # it needs nothing from elsewhere
    summary = json.loads(json.dumps(outcome.summary()))
    assert summary["guaranteed"] is True
    assert set(summary["damage_at_equal_skip_rate"]) == {"one_minus_max", "entropy", "margin", "calibrated"}


async def test_few_prompts_give_an_estimate_without_a_promise(tmp_path: Path) -> None:
    outcome = await run(tmp_path, 40, grid=2, alphas=(0.4,))
    found = outcome.calibration
    assert not found.guaranteed
    assert found.tau(0.4) is not None
    assert "promise nothing" in page(outcome)
    assert files.guarantee(found, 0.4, asked()) == "none"


async def test_a_run_goes_on_from_its_records_and_refuses_others(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(name: str, done: int, total: int) -> None:
        if name == "calibration" and done == 10:
            raise Stop

    subject, plan = exact.subject(40), exact.plan(tmp_path, grid=2)
    with pytest.raises(Stop):
        await calibrate(subject, plan, stop)
    before = (tmp_path / "calibration.jsonl").read_text()
    outcome = await calibrate(exact.subject(40), plan, lambda *_: None)
    after = (tmp_path / "calibration.jsonl").read_text()
    assert after.startswith(before)
    again = await run(tmp_path / "elsewhere", 40, grid=2)
    left_out = {"created"}
    assert outcome.calibration.model_dump(exclude=left_out) == again.calibration.model_dump(exclude=left_out)
    with pytest.raises(JournalError, match="sampling"):
        await run(tmp_path, 40, grid=2, sampling=Sampling(temperature=0.5))


def asked(**changes: Any) -> files.Asked:
    values: dict[str, Any] = {
        "sampling": Sampling(),
        "prompt_tokens": 2,
        "max_tokens": exact.MAX_TOKENS,
        "k": exact.POLICY.k,
        "gamma": 1.0,
        "chat": True,
    }
    return files.Asked(**{**values, **changes})


@pytest.fixture
async def calibration(tmp_path: Path) -> files.Calibration:
    return (await run(tmp_path / "work", 40, grid=2)).calibration.model_copy(update={"guaranteed": True})


OUTSIDE: dict[str, dict[str, Any]] = {
    "stricter gate": {"gamma": 1.5},
    "other temperature": {"sampling": Sampling(temperature=0.7)},
    "longer prompt": {"prompt_tokens": 3},
    "longer answer": {"max_tokens": exact.MAX_TOKENS + 1},
    "shorter answer": {"max_tokens": exact.MAX_TOKENS - 1},
    "other k": {"k": 4},
    "no chat template": {"chat": False},
}


async def test_the_promise_is_for_requests_inside_the_range(calibration: files.Calibration) -> None:
    assert files.guarantee(calibration, 0.03, asked()) == "damage <= 0.03"
    assert files.guarantee(calibration, 0.03, asked(gamma=0.5)) == "damage <= 0.03"
    for changes in OUTSIDE.values():
        assert files.guarantee(calibration, 0.03, asked(**changes)) == "none"


async def test_files_that_cannot_be_used_say_why_in_one_line(calibration: files.Calibration, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"

    def refused(change: Callable[[dict[str, Any]], Any], says: str) -> None:
        raw = json.loads(calibration.model_dump_json())
        change(raw)
        path.write_text(json.dumps(raw))
        with pytest.raises(files.CalibrationError, match=says) as caught:
            files.load(path)
        assert "\n" not in str(caught.value)

    refused(lambda raw: raw.update(schema_version=3), "schema_version")
    refused(lambda raw: raw.pop("tokenizer_hash"), "tokenizer_hash")
    refused(lambda raw: raw["prompt_tokens"].update(low=9), "empty")
    refused(lambda raw: raw.update(surprise=1), "surprise")
    with pytest.raises(files.CalibrationError, match="cannot be read"):
        files.load(tmp_path / "missing.json")
    with pytest.raises(files.CalibrationError, match=r"choose one of 0\.03"):
        calibration.tau(0.5)
