"""Methods by name: what they are written as, and what each means for the session loop."""

from __future__ import annotations

import pytest

from services.common.calibration.predictor import Predictor
from services.common.messages import Mode
from services.edge_worker.gate.rule import Gate
from services.edge_worker.signals import SAFE_TAU, Importance, Signal
from services.evaluate import labels, methods

KNOBS = methods.Knobs(Signal.ENTROPY, 0.3, Importance.BINDING, 0.5, 64, None, 4, 6, 48, 12, 0.8)


def rule(text: str, rate: float | None = None) -> methods.Rule:
    return methods.rule(methods.parse(text)[-1], KNOBS, None, rate)


def test_the_default_threshold_knows_greedy_text() -> None:
    assert methods.default_tau(Signal.TEMPERATURE_PERTURBATION, greedy=True) == 0.43
    assert methods.default_tau(Signal.TEMPERATURE_PERTURBATION, greedy=False) == SAFE_TAU[Signal.TEMPERATURE_PERTURBATION]
    assert methods.default_tau(Signal.ENTROPY, greedy=True) == SAFE_TAU[Signal.ENTROPY]


def test_methods_are_settings_of_one_loop() -> None:
    assert (rule("hlm").gamma, rule("hlm").k) == (0.0, 1)
    assert (rule("fixed-k").gamma, rule("fixed-k").k, rule("fixed-k@9").k) == (0.0, 6, 9)
    assert (rule("u-hlm").gate.tau_u, rule("u-hlm@0.7").gate.tau_u) == (0.3, 0.7)
    assert rule("ui-hlm").gate.importance is Importance.BINDING
    assert rule("u-hlm").gate.importance is Importance.NONE
    assert rule("lossless").mode is Mode.LOSSLESS
    assert rule("rand-hlm@0.4").gate.random_rate == 0.4
    assert rule("u-hlm,rand-hlm", 0.2).gate.random_rate == 0.2
    assert not rule("slm").asks
    assert [m.label for m in methods.parse("slm,slm,u-hlm")] == ["llm", "slm", "u-hlm"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("telepathy", "unknown method 'telepathy'"),
        ("rand-hlm", "add u-hlm"),
        ("u-hlm@x", "a number belongs"),
        ("u-hlm@nan", "a number belongs"),
        ("ui-hlm@0.3/", "a number belongs"),
        ("u-hlm:magic@0.3", "belongs one signal, one importance or both: one_minus_max"),
        ("ui-hlm:binding:received@0.3", "belongs one signal"),
        ("u-hlm:entropy", "name its threshold, as in u-hlm:entropy@0.5"),
        ("u-hlm:binding@0.3", "u-hlm takes no :binding; ui-hlm and i-hlm do"),
        ("rand-hlm:entropy@0.3", "takes no :entropy"),
        ("u-hlm@0.3/0.5", "only ui-hlm takes a quantile"),
        ("ui-hlm@0.3/1.5", "from 0 to 1"),
        ("u-hlm@2", "from 0 to 1"),
        ("fixed-k@0", "from 1 to 64"),
        ("slm@0.5", "nothing to set"),
    ],
)
def test_methods_that_make_no_sense_are_refused(text: str, says: str) -> None:
    with pytest.raises(methods.MethodError, match=says):
        methods.parse(text)


def test_a_method_has_one_label() -> None:
    """It is the key of recorded answers."""
    spellings = "ui-hlm:binding:entropy@.30/0.70,ui-hlm:entropy:binding@0.3/0.7,u-hlm@-0,u-hlm@0.0,fixed-k@8.0"
    assert [m.label for m in methods.parse(spellings)] == ["llm", "ui-hlm:entropy:binding@0.3/0.7", "u-hlm@0", "fixed-k@8"]
    assert labels.read("u-hlm:entropy@0.4").family == labels.read("u-hlm:entropy@0.5").family == "u-hlm:entropy"
    assert labels.read("u-hlm@0.4").family == "u-hlm"
    assert labels.read("ui-hlm:binding@0.3/0.7").family == "ui-hlm:binding@*/0.7"
    assert labels.read("ui-hlm:binding@0.3/0.5").family != labels.read("ui-hlm:binding@0.3/0.7").family


def test_every_method_chooses_its_signals() -> None:
    assert rule("u-hlm:margin@0.4").gate == Gate(Signal.MARGIN, 0.4)
    assert rule("lossless:one_minus_max@0.4").gate.signal is Signal.ONE_MINUS_MAX
    assert rule("ui-hlm@0.4").gate == Gate(Signal.ENTROPY, 0.4, importance=Importance.BINDING, quantile=0.5)
    both = rule("ui-hlm:margin:received@0.2/0.8").gate
    assert both == Gate(Signal.MARGIN, 0.2, importance=Importance.RECEIVED, quantile=0.8)
    assert rule("i-hlm").gate.quantile == 0.5
    importance_only = rule("i-hlm:received@0.9").gate
    assert (importance_only.importance, importance_only.quantile) == (Importance.RECEIVED, 0.9)
    assert importance_only.flag(0.0, 1.0, seed=1, position=0, round_=0)  # what the signal says does not matter
    assert importance_only.important(0.5, 1.0, [0.1, 0.2, 0.4])
    assert not importance_only.important(0.15, 1.0, [0.1, 0.2, 0.4])


def test_the_score_of_a_calibration_at_any_threshold() -> None:
    predictor = Predictor(
        signals=("margin",),
        centre=(0.0,),
        scale=(1.0,),
        weights=(1.0, 0.0),
        intercept=0.0,
        knots_score=(0.5,),
        knots_rejection=(0.5,),
    )
    chosen = methods.scored(methods.parse("u-hlm:calibrated@0.2,ui-hlm:calibrated:binding@0.2,u-hlm@0.2"), predictor)
    found = [methods.rule(m, KNOBS) for m in chosen[1:]]
    assert [f.predictor for f in found] == [predictor, predictor, None]
    assert [f.gate.tau_u for f in found] == [0.2, 0.2, 0.2]
    assert found[1].gate.importance is Importance.BINDING
    with pytest.raises(methods.MethodError, match="needs a --calibration FILE"):
        methods.scored(chosen, None)
    assert methods.scored(methods.parse("slm"), None) == methods.parse("slm")
