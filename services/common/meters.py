"""Counters, gauges and histograms for what the catalogue describes, in an injected registry."""

from __future__ import annotations

import itertools
from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from services.common.catalogue.metric import Kind, Label, Metric

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter that nobody asks for; on an edge its bytes go over a thin link


class Labelled:
    """A counter with one closed label, for what is counted with each token or round: to find a value's counter in the library
    takes longer than to count."""

    def __init__(self, counter: Counter, label: Label) -> None:
        self._children = {value: counter.labels(value) for value in label.values}

    def labels(self, value: str) -> Counter:
        """Raises ``KeyError`` for a value that the label does not have."""
        return self._children[value]


class Meters:
    """Each method raises ``TypeError`` for a metric of another kind and, as the registry does, ``ValueError`` for one that is
    there already. A counter whose labels are all closed begins at 0: a rate then sees its first event."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, metric: Metric, **begins: Collection[str]) -> Counter:
        """``begins``: values of a label that there can be here; others do not begin at 0."""
        found = Counter(*_arguments(metric, Kind.COUNTER), registry=self._registry)
        if metric.labels and all(label.values for label in metric.labels):
            for values in itertools.product(*(begins.get(label.name, label.values) for label in metric.labels)):
                found.labels(*values)
        return found

    def labelled(self, metric: Metric) -> Labelled:
        """A counter with one label, all of whose values stand in the catalogue."""
        (label,) = metric.labels
        return Labelled(self.counter(metric), label)

    def gauge(self, metric: Metric) -> Gauge:
        return Gauge(*_arguments(metric, Kind.GAUGE), registry=self._registry)

    def histogram(self, metric: Metric) -> Histogram:
        return Histogram(*_arguments(metric, Kind.HISTOGRAM), buckets=metric.buckets, registry=self._registry)


def _arguments(metric: Metric, kind: Kind) -> tuple[str, str, list[str]]:
    if metric.kind is not kind:
        raise TypeError(f"{metric.name} is a {metric.kind.value}, not a {kind.value}")
    return metric.name, metric.help, [label.name for label in metric.labels]
