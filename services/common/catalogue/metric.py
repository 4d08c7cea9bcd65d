"""What there is to say about one metric. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass

OTHER = "other"


class Service(enum.StrEnum):
    """Who counts."""

    EDGE = "edge_worker"
    VERIFIER = "verifier"
    POLICY = "policy"


class Kind(enum.StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Label:
    """``values``: all that there are; empty where an operator's setting names them, of which ``bound`` says how many there
    can be."""

    name: str
    values: tuple[str, ...] = ()
    bound: str = ""

    def of(self, value: str) -> str:
        """``value``, or ``other`` where it is none of those listed: a label never grows by what a message or an error says."""
        return value if value in self.values else OTHER


@dataclass(frozen=True)
class Metric:
    """``name`` is that of the family. ``unit`` is a base unit (seconds, bytes, joules; then the name ends with it), a thing
    that is counted, or ``1``. ``buckets``: upper ends, of a histogram only."""

    name: str
    kind: Kind
    unit: str
    help: str
    owners: tuple[Service, ...]
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def series(self) -> str:
        """What queries name: a counter's samples end in ``_total``; a histogram's add ``_bucket``, ``_sum`` or ``_count``."""
        return f"{self.name}_total" if self.kind is Kind.COUNTER else self.name

    @property
    def samples(self) -> tuple[str, ...]:
        """The names of all its samples."""
        if self.kind is Kind.HISTOGRAM:
            return (f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count")
        return (self.series,)


@dataclass(frozen=True)
class Maker:
    """Metrics of the same owners."""

    owners: tuple[Service, ...]

    def counter(self, name: str, unit: str, text: str, *labels: Label) -> Metric:
        return Metric(f"sluice_{name}", Kind.COUNTER, unit, text, self.owners, labels)

    def gauge(self, name: str, unit: str, text: str, *labels: Label) -> Metric:
        return Metric(f"sluice_{name}", Kind.GAUGE, unit, text, self.owners, labels)

    def histogram(self, name: str, unit: str, text: str, buckets: tuple[float, ...], *labels: Label) -> Metric:
        return Metric(f"sluice_{name}", Kind.HISTOGRAM, unit, text, self.owners, labels, tuple(float(b) for b in buckets))
