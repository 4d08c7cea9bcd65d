"""Figures out of the services' /metrics. Pure, but for the parser of prometheus-client."""

from __future__ import annotations

import math
from collections.abc import Iterable

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

Buckets = dict[float, float]  # upper bound -> observations at or below it


def counter(text: str, name: str, **without: str) -> float | None:
    """The sum of counter ``name`` over its labels, ``without`` these values of them; ``None``: there is no such counter."""
    left_out = without.items()
    found = [s.value for s in _samples(text) if s.name == name and not left_out & s.labels.items()]
    return sum(found) if found else None


def buckets(text: str, name: str) -> Buckets:
    """The cumulative buckets of histogram ``name``, labels summed."""
    out: Buckets = {}
    for sample in _samples(text):
        if sample.name == f"{name}_bucket":
            bound = float(sample.labels["le"])
            out[bound] = out.get(bound, 0.0) + sample.value
    return out


def between(before: Buckets, after: Buckets) -> Buckets:
    """What was observed between two scrapes of one process."""
    return {bound: count - before.get(bound, 0.0) for bound, count in after.items()}


def quantile(histogram: Buckets, share: float) -> float | None:
    """As PromQL's ``histogram_quantile``: linear within a bucket; ``None`` without observations."""
    bounds = sorted(histogram)
    total = histogram[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    rank, low, below = share * total, 0.0, 0.0
    for bound in bounds:
        count = histogram[bound]
        if count >= rank:
            return low if math.isinf(bound) else low + (bound - low) * (rank - below) / max(count - below, 1e-12)
        low, below = bound, count
    return low


def _samples(text: str) -> Iterable[Sample]:
    return (sample for family in text_string_to_metric_families(text) for sample in family.samples)
