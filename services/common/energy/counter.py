"""Joules as a metric."""

from __future__ import annotations

from collections.abc import Collection

from prometheus_client import CollectorRegistry

from services.common.catalogue import shared
from services.common.energy.meter import Source
from services.common.energy.share import MICRO
from services.common.meters import Meters


class JoulesCounter:
    """``sluice_energy_joules_total`` by component and source. ``components``: what is counted here; none: nobody counts, and
    the metric is shown without a sample, since 0 would be a claim."""

    def __init__(self, registry: CollectorRegistry, components: Collection[str]) -> None:
        self._counter = Meters(registry).counter(shared.ENERGY, component=components)

    def add(self, component: str, source: Source, microjoules: int) -> None:
        self._counter.labels(component, source.value).inc(microjoules / MICRO)
