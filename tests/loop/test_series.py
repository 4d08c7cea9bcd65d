"""From raw samples to rates, quantiles and gaps."""

from __future__ import annotations

import numpy as np
import pytest

from services.cli.loop import series as figures
from services.cli.loop.record import Raw

BEGIN = 1_000_000.0


def raw(name: str, samples: list[tuple[float, float]], **labels: str) -> Raw:
    """``samples``: seconds of the load and values."""
    return Raw(name, labels, np.array([BEGIN + at for at, _ in samples]), np.array([value for _, value in samples]))


def counter(name: str, per_second: float, times: np.ndarray, **labels: str) -> Raw:
    return raw(name, [(float(at), per_second * max(0.0, float(at))) for at in times], **labels)


TIMES = np.arange(-5.0, 101.0, 5.0)


def recorded(times: np.ndarray = TIMES) -> list[Raw]:
    """Two verifiers of 0.4 and 0.8, ten tokens a second of which two are judged, a damage of 0.05."""
    trips = {"0.1": 2.0, "0.2": 3.8, "+Inf": 4.0}
    return [
        counter(figures.BUSY, 0.4, times, instance="a"),
        counter(figures.BUSY, 0.8, times, instance="b"),
        counter(figures.TOKENS, 8.0, times, decision="skipped"),
        counter(figures.TOKENS, 1.5, times, decision="accepted"),
        counter(figures.TOKENS, 0.5, times, decision="corrected"),
        counter(figures.AUDIT, 0.5, times, score="0.3"),
        counter(figures.ROUNDS, 4.0, times),
        *(counter(figures.TRIPS, rate, times, le=bound) for bound, rate in trips.items()),
        raw(figures.SESSIONS, [(float(at), 3.0) for at in times], instance="x"),
    ]


def test_rates_are_those_of_the_counters() -> None:
    found = figures.series(recorded(), BEGIN, BEGIN + 100.0, window=20.0, scrape_seconds=5.0)
    later = found.at >= 20.0
    assert found.utilisation[later] == pytest.approx(0.6)
    assert found.tokens_per_second[later] == pytest.approx(10.0)
    assert found.upload_rate[later] == pytest.approx(0.2)
    assert found.damage[later] == pytest.approx(0.05)
    assert found.rounds_per_second[later] == pytest.approx(4.0)
    assert found.round_trip_p95[later] == pytest.approx(0.2), "as histogram_quantile has it"
    assert found.sessions[later] == pytest.approx(3.0)
    assert found.unverified[later] == pytest.approx(0.0)


def test_a_series_that_appears_late_grew_from_zero() -> None:
    """prometheus-client shows a label from its first event on."""
    found = [*recorded(), raw(figures.TOKENS, [(60.0, 50.0), (65.0, 50.0)], decision="unverified")]
    shares = figures.series(found, BEGIN, BEGIN + 66.0, window=20.0, scrape_seconds=5.0).unverified
    assert shares[11] == 0.0, "second 55"
    assert shares[12] == pytest.approx(50.0 / 250.0), "second 60"


def test_nothing_is_known_where_prometheus_was_away() -> None:
    times = TIMES[(TIMES <= 40.0) | (TIMES >= 70.0)]
    found = figures.series(recorded(times), BEGIN, BEGIN + 100.0, window=10.0, scrape_seconds=5.0)
    known = np.isfinite(found.utilisation)
    assert known[found.at <= 40.0].all()
    assert not known[(found.at > 40.0) & (found.at < 70.0)].any()
    assert known[found.at >= 80.0].all()
    assert not np.isfinite(found.sessions[(found.at > 40.0) & (found.at < 70.0)]).any()
    assert found.utilisation[found.at >= 80.0] == pytest.approx(0.6)


def test_alerts_are_told_with_their_first_second() -> None:
    firing = {"alertstate": "firing"}
    found = [
        raw(figures.ALERTS, [(50.0, 1.0)], alertname="B", instance="1", **firing),
        raw(figures.ALERTS, [(30.0, 1.0)], alertname="B", instance="2", **firing),
        raw(figures.ALERTS, [(10.0, 1.0)], alertname="A", alertstate="pending"),
    ]
    assert figures.alerts(found, BEGIN) == [("B", 30.0)]
