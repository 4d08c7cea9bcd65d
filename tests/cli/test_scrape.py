"""Figures from metrics, against the library that writes them."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from services.cli import scrape


def test_counters_are_summed_over_labels() -> None:
    registry = CollectorRegistry()
    sent = Counter("sluice_uplink_bytes", "x", ["channel"], registry=registry)
    sent.labels("kafka").inc(40)
    sent.labels("redis").inc(2)
    text = generate_latest(registry).decode()
    assert scrape.counter(text, "sluice_uplink_bytes_total") == 42
    assert scrape.counter(text, "sluice_other_total") is None


def test_a_quantile_counts_only_what_came_between_two_scrapes() -> None:
    registry = CollectorRegistry()
    lag = Histogram("lag", "x", buckets=(0.01, 0.02, 1.0), registry=registry)
    for _ in range(1000):
        lag.observe(0.9)
    before = scrape.buckets(generate_latest(registry).decode(), "lag")
    for _ in range(98):
        lag.observe(0.005)
    for _ in range(2):
        lag.observe(0.015)
    after = scrape.buckets(generate_latest(registry).decode(), "lag")
    seen = scrape.between(before, after)
    assert scrape.quantile(seen, 0.99) == pytest.approx(0.015)
    assert scrape.quantile(seen, 0.5) == pytest.approx(0.01 * 50 / 98)
    assert scrape.quantile(after, 0.99) > 0.9  # type: ignore[operator]


def test_no_observations_give_no_quantile() -> None:
    registry = CollectorRegistry()
    Histogram("lag", "x", registry=registry)
    assert scrape.quantile(scrape.buckets(generate_latest(registry).decode(), "lag"), 0.99) is None
    assert scrape.quantile({}, 0.99) is None
