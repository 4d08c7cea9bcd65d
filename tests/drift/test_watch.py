"""What a worker makes of its audits: which answers get the bound and count, what metrics and the answer say."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.common.messages import Mode
from services.edge_worker.answer import AnswerStats
from services.edge_worker.calibration import Calibrated
from services.edge_worker.drift import DriftWatch, watching
from services.edge_worker.metrics import DriftMetrics
from services.edge_worker.settings import EdgeSettings
from tests import identities
from tests.edge_worker.test_calibration import made, request

ALPHA = 0.06
PROMISE = "damage <= 0.06"


def stats(damage: float, tokens: int = 10, **changes: Any) -> AnswerStats:
    """An answer of skipped tokens, audited in its rounds."""
    found = AnswerStats(skipped=tokens, finish_reason="length", **changes)
    found.audits.in_round([damage] * tokens)
    return found


class Rig:
    def __init__(self, **changes: Any) -> None:
        self.registry = CollectorRegistry()
        values: dict[str, Any] = {"alpha": ALPHA, "step": 0.1, "promises": True}
        self.watch = DriftWatch(DriftMetrics(self.registry, "phone"), **{**values, **changes})

    def answers(self, damage: float, count: int, **changes: Any) -> None:
        for _ in range(count):
            self.watch.ended(self.watch.admit(request(**changes), PROMISE), stats(damage))

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"sluice_{name}", {"device_class": "phone", **labels})


def test_a_new_answer_takes_the_bound_and_keeps_it() -> None:
    rig = Rig()
    first = rig.watch.admit(request(), PROMISE)
    rig.answers(0.5, 10)
    second = rig.watch.admit(request(), PROMISE)
    assert first.gamma == 1.0
    assert second.gamma == pytest.approx(1.0 - 10 * 0.1 * 0.44)
    assert rig.watch.admit(request(gamma=0.2), PROMISE).gamma == 0.2
    rig.answers(0.5, 20)
    assert rig.watch.admit(request(), PROMISE).gamma == 0.0, "it asks about every token"


@pytest.mark.parametrize(
    ("changes", "promised", "bounded", "watched"),
    [
        ({}, PROMISE, True, True),
        ({}, "none", True, False),
        ({"gamma": 2.0}, "none", False, False),
        ({"gamma": 0.0}, PROMISE, False, False),
        ({"slm_only": True, "k": 0}, "none", False, False),
        ({"mode": Mode.LOSSLESS}, "none", False, False),
    ],
    ids=["promised", "outside the calibration", "wants no bound", "asks about everything", "k = 0", "lossless"],
)
def test_who_is_bounded_and_who_counts(changes: dict[str, Any], promised: str, *, bounded: bool, watched: bool) -> None:
    rig = Rig()
    rig.answers(0.5, 10)
    admitted = rig.watch.admit(request(**changes), promised)
    assert (admitted.gamma < request(**changes).gamma) == bounded
    assert admitted.watched == watched
    before = rig.value("watched_answers_total")
    rig.watch.ended(admitted, stats(0.1))
    assert rig.value("watched_answers_total") == (before or 0) + watched
    assert Rig(promises=False).watch.admit(request(**changes), "none").watched == bounded


def test_an_answer_that_is_not_known_whole_does_not_count() -> None:
    rig = Rig()
    admitted = rig.watch.admit(request(), PROMISE)
    rig.watch.ended(admitted, AnswerStats(skipped=5, finish_reason="length"))
    rig.watch.ended(admitted, AnswerStats(finish_reason="stop"))
    broken_off = stats(0.5)
    broken_off.finish_reason = ""
    rig.watch.ended(admitted, broken_off)
    assert rig.value("watched_answers_total") == 0
    assert rig.value("audit_answered_tokens_total") == 0
    assert rig.value("unaudited_tokens_total") == 5
    assert rig.watch.gamma == 1.0


def test_metrics_tell_the_estimate_its_limits_and_the_bound() -> None:
    rig = Rig()
    assert rig.value("drift_state", state="inside") == 1
    rig.answers(0.2, 400)
    assert rig.value("drift_damage") == pytest.approx(0.2)
    lower, upper = rig.value("drift_damage_lower"), rig.value("drift_damage_upper")
    assert lower is not None
    assert upper is not None
    assert ALPHA <= lower < 0.2 < upper
    assert rig.value("drift_alpha") == ALPHA
    assert rig.value("drift_state", state="drifted") == 1
    assert rig.value("drift_state", state="inside") == 0
    assert rig.value("drift_alarms_total") == 1
    assert rig.value("gamma_bound") == 0.0
    damage, answers = rig.value("watched_damage_total"), rig.value("watched_answers_total")
    assert damage == pytest.approx(80.0)
    assert answers == 400
    assert rig.value("audit_weighted_total") == pytest.approx(800.0)
    assert rig.value("audit_answered_tokens_total") == rig.value("audited_tokens_total") == 4000
    assert rig.watch.withdrawn == "drift: measured damage 0.2 above 0.06"


def test_what_the_clip_takes_away_is_counted() -> None:
    rig = Rig()
    heavy = stats(0.0)
    heavy.audits.rate = 0.02
    heavy.audits.sampled([1.0] * 10)
    rig.watch.ended(rig.watch.admit(request(), PROMISE), heavy)
    assert rig.value("watched_damage_total") == 10.0
    assert rig.value("watched_damage_clipped_total") == pytest.approx(40.0)
    assert rig.watch.gamma == pytest.approx(max(0.0, 1.0 - 0.1 * 9.94))


def settings(**changes: Any) -> EdgeSettings:
    return EdgeSettings(**{"credential": identities.credential().text(), **changes})


def test_settings_and_calibration_say_what_is_watched() -> None:
    def after(found: DriftWatch) -> tuple[float, str]:
        for _ in range(400):
            found.ended(found.admit(request(), "none"), stats(0.2))
        return found.gamma, found.withdrawn

    unknown = after(watching(settings(), None, CollectorRegistry()))
    assert unknown == (1.0, ""), "no bound is known"
    gamma, why = after(watching(settings(alpha=ALPHA), None, CollectorRegistry()))
    assert gamma < 1.0
    assert why
    gamma, why = after(watching(settings(alpha=ALPHA, adaptive=False), None, CollectorRegistry()))
    assert gamma == 1.0
    assert why
    calibrated = Calibrated(made(), 0.03)
    assert after(watching(settings(), calibrated, CollectorRegistry())) == (1.0, ""), "they were promised nothing"
    registry = CollectorRegistry()
    found = watching(settings(device_class="phone"), calibrated, registry)
    assert registry.get_sample_value("sluice_drift_alpha", {"device_class": "phone"}) == 0.03
    assert found.admit(request(), "damage <= 0.03").watched


@pytest.mark.parametrize("changes", [{"device_class": "a b"}, {"device_class": ""}, {"alpha": 0.1, "random_rate": 0.5}])
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes)).replace("alpha", "random_rate")):
        settings(**changes)
