"""Joules as a metric."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from services.common.energy.meter import Source
from services.common.energy.share import MICRO


class JoulesCounter:
    """``sluice_energy_joules_total`` by component and source."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counter = Counter(
            "sluice_energy_joules",
            "Energy spent, by what it went to and how that is known",
            ["component", "source"],
            registry=registry,
        )

    def add(self, component: str, source: Source, microjoules: int) -> None:
        self._counter.labels(component, source.value).inc(microjoules / MICRO)
