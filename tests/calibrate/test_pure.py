"""Line, predictor, thresholds, splits and records against numbers worked out by hand."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from services.calibrate import line, predictor_fit, risk_control
from services.calibrate.journal import Journal, JournalError
from services.calibrate.run import grid_of, losses_of
from services.calibrate.splits import split
from services.calibrate.trace import Answer, Columns, Token
from services.common.calibration.predictor import Predictor, damage_at


def token(audit: float, *, flagged: bool = False, u: float = 0.5) -> Token:
    return Token({"one_minus_max": u}, 0.5, flagged, audit, audit / 2)


def answer(prompt: int = 0, threshold: float = 0.5, *tokens: Token, answered: int = 4) -> Answer:
    return Answer(prompt, threshold, 7, 3, answered, tokens)


# -- trace ------------------------------------------------------------------------------------------------------------


def test_damage_counts_skipped_tokens_over_all_answered_ones() -> None:
    found = answer(0, 0.5, token(0.2), token(0.9, flagged=True), token(0.4), answered=4)
    assert found.damage == pytest.approx(0.6 / 4)
    assert found.skipped == 2
    assert answer(0, 0.5, answered=0).damage == 0.0


def test_an_answer_survives_its_line() -> None:
    found = answer(3, 0.25, token(0.25, u=0.125), token(0.5, flagged=True))
    assert Answer.from_json(found.to_json()) == found
    with pytest.raises(ValueError, match="no token"):
        Columns.of([answer()])


# -- line -------------------------------------------------------------------------------------------------------------


def test_the_line_its_thresholds_and_the_papers_bound() -> None:
    u, beta = np.array([0.0, 0.5, 1.0, 0.5]), np.array([0.0, 0.25, 0.7, 0.45])
    found = line.fit(u, beta, u)
    assert found.a == pytest.approx(0.7)
    assert found.b == pytest.approx(0.0)
    assert found.r == pytest.approx(stats.pearsonr(u, beta).statistic)
    assert found.r_expected == pytest.approx(1.0)
    assert found.disagreement == 0.75
    made = line.Line(0.8, -0.08, 0.7, 0.8, 0.4, 4)
    assert made.risk_averse == pytest.approx(0.1)
    assert made.risk_prone == pytest.approx(0.6)
    # tokens at or below 0.5: line values 0 (cut off at zero), 0.32, 0.32; over four tokens
    assert made.bound(0.5, u) == pytest.approx((0.0 + 0.32 + 0.32) / 4)
    assert line.Line(-0.1, 0.2, -0.3, -0.3, 0.4, 4).risk_averse is None


def test_tokens_that_are_all_alike_define_no_line() -> None:
    with pytest.raises(ValueError, match="no line"):
        line.fit(np.full(5, 0.5), np.linspace(0, 1, 5), np.linspace(0, 1, 5))


# -- predictor --------------------------------------------------------------------------------------------------------


def test_the_predictor_is_its_numbers() -> None:
    """Log-odds of 0.5 are 0 and of sigmoid(2) are 2: one feature and its square."""
    made = Predictor(
        signals=("margin",),
        centre=(1.0,),
        scale=(2.0,),
        weights=(1.0, 0.5),
        intercept=-0.25,
        knots_score=(0.2, 0.8),
        knots_rejection=(0.0, 0.6),
    )
    values = np.array([0.5, 1 / (1 + math.exp(-2))])
    standard = np.array([-0.5, 0.5])
    score = 1 / (1 + np.exp(-(standard + 0.5 * standard**2 - 0.25)))
    expected = 0.999 * (score - 0.2) + 0.001 * score
    assert made.predict({"margin": values}) == pytest.approx(expected)
    assert made.one({"margin": 0.5}) == pytest.approx(expected[0])
    assert Predictor.model_validate_json(made.model_dump_json()) == made
    with pytest.raises(ValueError, match="other numbers"):
        Predictor.model_validate(made.model_dump() | {"weights": (1.0,)})
    with pytest.raises(ValueError, match="rise"):
        Predictor.model_validate(made.model_dump() | {"knots_rejection": (0.6, 0.0)})


def test_damage_at_a_share_by_hand() -> None:
    audit, score = np.array([0.1, 0.9, 0.3, 0.5]), np.array([0.1, 0.4, 0.2, 0.2])
    assert damage_at(score, audit, 0.25) == pytest.approx(0.1 / 4)
    assert damage_at(score, audit, 0.5) == pytest.approx((0.1 + 0.4) / 4)  # two are tied: either counts with their mean
    assert damage_at(score, audit, 1.0) == pytest.approx(1.8 / 4)


def tokens(rng: np.random.Generator, count: int) -> Columns:
    """Rejection grows with both signals, each of which is noisy alone."""
    a, b = rng.uniform(0.02, 0.98, count), rng.uniform(0.02, 0.98, count)
    odds = np.log(a / (1 - a)) + np.log(b / (1 - b))
    beta = np.clip(1 / (1 + np.exp(-1.5 * odds)) + rng.normal(0, 0.05, count), 0, 1)
    return Columns({"entropy": a, "margin": b}, np.full(count, 0.5), beta, beta, np.repeat(np.arange(count / 20), 20))


def test_the_predictor_beats_each_single_signal_on_tokens_it_never_saw() -> None:
    rng = np.random.default_rng(5)
    predictor = predictor_fit.fit(tokens(rng, 1000))
    unseen = tokens(rng, 2000)
    damage = predictor_fit.compare(unseen, predictor)
    for share in ("0.4", "0.5", "0.6", "0.7"):
        assert damage["calibrated"][share] < 0.9 * min(damage["entropy"][share], damage["margin"][share])
    predicted = predictor.predict(unseen.signals)
    for low in (0.0, 0.25, 0.5, 0.75):  # it is a probability: right on average wherever one looks
        here = (predicted >= low) & (predicted < low + 0.25)
        assert predicted[here].mean() == pytest.approx(unseen.audit[here].mean(), abs=0.03)


def test_a_signal_that_says_nothing_is_left_out() -> None:
    rng = np.random.default_rng(6)
    u, noise = rng.uniform(0.02, 0.98, 600), rng.uniform(0.02, 0.98, 600)
    audit = np.clip(u**2, 0, 1)
    columns = Columns({"entropy": u, "margin": noise}, u, audit, audit, np.repeat(np.arange(30.0), 20))
    predictor = predictor_fit.fit(columns)
    assert predictor.weights[0] > 0.0
    assert abs(predictor.weights[1]) < 0.05 * predictor.weights[0]


def test_nothing_to_predict_is_said() -> None:
    columns = Columns({"entropy": np.linspace(0.1, 0.9, 9)}, np.ones(9), np.zeros(9), np.zeros(9), np.arange(9.0))
    with pytest.raises(ValueError, match="all accepted"):
        predictor_fit.fit(columns)


# -- thresholds -------------------------------------------------------------------------------------------------------


def losses(*columns: float, n: int = 200) -> np.ndarray:
    return np.tile(np.array(columns), (n, 1))


GRID = np.array([0.1, 0.2, 0.3])


@pytest.mark.parametrize(("n", "allowed"), [(23, 0.009), (46, 0.029), (200, 0.045)])
def test_the_risk_that_n_prompts_allow_at_five_percent(n: int, allowed: float) -> None:
    """PAPERS.md, section 3."""
    assert risk_control.largest_risk(n, 0.05) == pytest.approx(allowed, abs=6e-4)
    exact = risk_control.largest_risk(n, 0.05)
    assert risk_control.conformal(losses(exact, n=n), GRID[:1], 0.05, least=1) == 0.1
    assert risk_control.conformal(losses(exact + 1e-4, n=n), GRID[:1], 0.05, least=1) is None


def test_conformal_takes_the_running_maximum() -> None:
    """The loss falls again at the last threshold; its running maximum does not, so that one is not chosen."""
    assert risk_control.conformal(losses(0.01, 0.2, 0.01), GRID, 0.05) == 0.1
    assert risk_control.conformal(losses(0.01, 0.02, 0.03), GRID, 0.05) == 0.3
    assert risk_control.conformal(losses(0.2, 0.0, 0.0), GRID, 0.05) is None


def test_hoeffding_bentkus_by_hand() -> None:
    n, alpha, mean = 200, 0.1, 0.05
    bentkus = math.e * stats.binom.cdf(10, n, alpha)
    hoeffding = math.exp(-n * (0.05 * math.log(0.5) + 0.95 * math.log(0.95 / 0.9)))
    assert risk_control.p_value(mean, n, alpha) == pytest.approx(min(bentkus, hoeffding))
    assert risk_control.p_value(0.0, n, alpha) == pytest.approx(0.9**200)
    assert risk_control.p_value(0.1, n, alpha) == 1.0
    values = [risk_control.p_value(m, n, alpha) for m in np.linspace(0, 0.1, 21)]
    assert all(a <= b for a, b in pairwise(values))


def test_the_sequence_of_tests_ends_at_the_first_that_fails() -> None:
    assert risk_control.learn_then_test(losses(0.0, 0.2, 0.0), GRID, 0.1) == 0.1
    assert risk_control.learn_then_test(losses(0.0, 0.01, 0.02), GRID, 0.1) == 0.3
    assert risk_control.learn_then_test(losses(0.1, 0.0, 0.0), GRID, 0.1) is None


def test_too_few_prompts_get_no_guarantee() -> None:
    for rule in (risk_control.conformal, risk_control.learn_then_test):
        with pytest.raises(risk_control.TooFewPromptsError, match="at least 200"):
            rule(losses(0.0, n=199), GRID[:1], 0.05)
        with pytest.raises(ValueError, match="outside"):
            rule(losses(1.5), GRID[:1], 0.05)
        with pytest.raises(ValueError, match="rise"):
            rule(losses(0.0, 0.0), GRID[[1, 0]], 0.05)


# -- splits, grid, losses, journal -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("prompts", "calibration"), [(6, 4), (50, 30), (203, 122), (252, 200), (1000, 600)])
def test_the_three_parts_are_disjoint_and_complete(prompts: int, calibration: int) -> None:
    parts = split(prompts, 1)
    together = [*parts.fit, *parts.calibration, *parts.evaluation]
    assert sorted(together) == list(range(prompts))
    assert len(parts.calibration) == calibration
    assert min(len(parts.fit), len(parts.evaluation)) >= 1
    assert split(prompts, 1) == parts
    assert prompts == 6 or split(prompts, 2) != parts
    with pytest.raises(ValueError, match="at least 6"):
        split(5, 1)


def test_the_grid_and_the_table_of_losses() -> None:
    assert grid_of(np.linspace(0, 1, 101), 3) == pytest.approx([0.15, 0.55, 0.95])
    assert len(grid_of(np.full(10, 0.5), 4)) == 1
    answers = [answer(p, t, token(t * p), answered=2) for p in (1, 2) for t in (0.2, 0.4)]
    table, rates = losses_of(answers, [2, 1], np.array([0.2, 0.4]))
    assert table == pytest.approx(np.array([[0.2, 0.4], [0.1, 0.2]]))
    assert rates == pytest.approx([0.5, 0.5])


def test_a_record_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    path, header = tmp_path / "work" / "fit.jsonl", {"draft": "a", "seed": 1}
    with Journal(path, header) as journal:
        journal.add(answer(0, 0.5, token(0.5)))
        journal.add(answer(1, 0.5, token(0.25)))
    path.write_bytes(path.read_bytes()[:-9])  # killed in mid-line
    with Journal(path, header) as journal:
        assert list(journal.answers) == [(0, 0.5)]
        journal.add(answer(1, 0.5, token(0.25)))
    with Journal(path, header) as journal:
        assert list(journal.answers) == [(0, 0.5), (1, 0.5)]
    before = path.read_bytes()
    with pytest.raises(JournalError, match="other draft"), Journal(path, {"draft": "b", "seed": 1}):
        pass
    assert path.read_bytes() == before
    path.write_text("something else\n")
    with pytest.raises(JournalError, match="no record"), Journal(path, header):
        pass
