"""Joules as a metric."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from services.common.catalogue import shared
from services.common.energy.meter import Source
from services.common.energy.share import MICRO
from services.common.meters import Meters


class JoulesCounter:
    """``sluice_energy_joules_total`` by component and source."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counter = Meters(registry).counter(shared.ENERGY)

    def add(self, component: str, source: Source, microjoules: int) -> None:
        self._counter.labels(component, source.value).inc(microjoules / MICRO)
