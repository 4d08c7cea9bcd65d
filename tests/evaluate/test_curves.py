"""Curves of methods, and where they are compared, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from services.evaluate import curves
from services.evaluate.bootstrap import Figure, Sampled
from services.evaluate.compared import page, to_json
from services.evaluate.curves import DAMAGE, ENERGY_TO_HLM, EXACT, SKIP, UPLOAD, Curve, compared, interpolated
from services.evaluate.modelled import Modelled
from services.evaluate.summary import Row
from services.evaluate.trace import Record


def point(upload: float, damage: float, spread: float = 0.0) -> dict[str, Sampled]:
    """Three draws: below, at and above the value."""
    drawn = np.array([-spread, 0.0, spread])
    return {UPLOAD: Sampled(upload, np.full(3, upload)), DAMAGE: Sampled(damage, damage + drawn)}


def curve(family: str, *points: dict[str, Sampled]) -> Curve:
    return Curve(family, tuple(f"{family}@0.{n}" for n in range(len(points))), points)


STEEP = curve("u-hlm:entropy", point(0.6, 0.0, 0.02), point(0.2, 0.2, 0.02), point(0.4, 0.05, 0.02))
FLAT = curve("rand-hlm", point(0.2, 0.3, 0.02), point(0.6, 0.1, 0.02))


def test_labels_that_differ_in_the_value_are_one_family() -> None:
    found = curves.families(
        ["llm", "u-hlm", "u-hlm@0.2", "ui-hlm:binding@0.2/0.5", "ui-hlm:binding@0.3/0.5", "ui-hlm:binding@0.3"]
    )
    assert list(found.values()) == [
        ["llm"],
        ["u-hlm", "u-hlm@0.2"],
        ["ui-hlm:binding@0.2/0.5", "ui-hlm:binding@0.3/0.5"],
        ["ui-hlm:binding@0.3"],
    ]


def test_between_its_points_a_curve_is_a_line_whatever_their_order() -> None:
    """0.3 lies in the middle of (0.2, 0.2) and (0.4, 0.05)."""
    found = interpolated(STEEP, UPLOAD, 0.3, DAMAGE)
    assert isinstance(found, Sampled)
    assert found.value == pytest.approx(0.125)
    assert found.drawn == pytest.approx([0.105, 0.125, 0.145])
    at_point = interpolated(STEEP, UPLOAD, 0.4, DAMAGE)
    assert isinstance(at_point, Sampled)
    assert at_point.value == pytest.approx(0.05)


def test_the_other_way_round_every_draw_has_its_own_curve() -> None:
    """Damage 0.125: with 0.02 more everywhere, the same damage is reached at an upload rate of 0.3 + 0.2 * 0.02 / 0.15."""
    found = interpolated(STEEP, DAMAGE, 0.125, UPLOAD)
    assert isinstance(found, Sampled)
    assert found.drawn == pytest.approx([0.3 - 0.2 * 0.02 / 0.15, 0.3, 0.3 + 0.2 * 0.02 / 0.15])


def test_beyond_its_points_a_curve_says_nothing() -> None:
    for value in (0.1, 0.7):
        assert interpolated(STEEP, UPLOAD, value, DAMAGE) == Figure(None, reason="not bracketed")
    edge = interpolated(STEEP, DAMAGE, 0.195, UPLOAD)  # the lowest draw ends at 0.18 and takes its end
    assert isinstance(edge, Sampled)
    assert edge.drawn[0] == pytest.approx(0.2)
    missing = interpolated(STEEP, UPLOAD, 0.3, ENERGY_TO_HLM)
    assert missing == Figure(None, reason="hlm was not run")


def test_differences_are_paired() -> None:
    """Both move together, so the difference has no spread: 0.3 - 0.1 * 0.2 / 0.4 - 0.125 = 0.125 at 0.3."""
    found = compared([FLAT, STEEP], UPLOAD, 0.3, (DAMAGE,))
    assert found.reference == "u-hlm:entropy"
    difference = found.families["rand-hlm"][f"{DAMAGE}_difference"]
    assert (difference.value, difference.low, difference.high) == pytest.approx((0.125, 0.125, 0.125))
    assert found.families["rand-hlm"][DAMAGE].low == pytest.approx(0.25 - 0.02, abs=0.002)
    assert f"{DAMAGE}_difference" not in found.families["u-hlm:entropy"]
    assert compared([FLAT], UPLOAD, 0.3, (DAMAGE,)).reference is None


def record(method: str, prompt: int, judged: int, audit: float, right: bool) -> Row:
    made = Record(method, prompt, "", 10, judged, 2, audit, 8, None, 0, 5, correct=right)
    return Row(made, Modelled(1.0, 2.0, 1.0, float(judged)), None)


def test_rows_become_curves_and_comparisons() -> None:
    """Ten tokens an answer, two of them bonus tokens: with four judged the upload rate is 0.4, the skip rate 0.5."""
    rows = {
        name: [record(name, n, judged, audit, right) for n in range(6)]
        for name, judged, audit, right in (
            ("llm", 0, 0.0, True),
            ("hlm", 8, 0.0, True),
            ("u-hlm@0.2", 4, 0.5, True),
            ("u-hlm@0.8", 2, 1.5, False),
        )
    }
    (only,) = curves.curves(rows, seed=1)
    assert only.labels == ("u-hlm@0.2", "u-hlm@0.8")
    assert [p[UPLOAD].value for p in only.points] == [0.4, 0.2]
    assert [p[SKIP].value for p in only.points] == [0.5, 0.75]
    found = curves.comparisons(rows, seed=1, at_rate=0.3)
    middle = found[0].families["u-hlm"]
    assert middle[DAMAGE].value == pytest.approx(0.1)
    assert middle[EXACT].value == pytest.approx(0.5)
    assert middle["exact_match_difference_to_hlm"].value == pytest.approx(-0.5)
    assert middle[ENERGY_TO_HLM].value == pytest.approx(0.6 / 1.1)  # (3 + 3) / 10 and (3 + 8) / 10 joules a token
    assert [(one.axis, one.value) for one in found[1:4]] == [(DAMAGE, 0.03), (DAMAGE, 0.06), (DAMAGE, 0.12)]
    assert found[1].families["u-hlm"][UPLOAD].reason == "not bracketed"
    assert found[3].families["u-hlm"][UPLOAD].value == pytest.approx(0.26)  # damage 0.05 at 0.4, 0.15 at 0.2
    text = page(found)
    assert "### At an upload rate of 0.3" in text
    assert "not bracketed" in text
    assert "less that of `u-hlm`" in text
    assert to_json(found)[0]["families"]["u-hlm"][DAMAGE]["value"] == pytest.approx(0.1)
    assert curves.comparisons({"llm": rows["llm"]}, seed=1, at_rate=0.3) == []
    assert page([]) == ""
