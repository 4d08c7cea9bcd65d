"""What one piece of work has cost, by component. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.common.energy.meter import Source
from services.common.energy.share import MICRO


@dataclass
class Account:
    """Whole microjoules. A component of which any part is estimated is an estimate."""

    microjoules: dict[str, int] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)

    def add(self, component: str, source: Source, microjoules: int) -> None:
        self.microjoules[component] = self.microjoules.get(component, 0) + microjoules
        before = self.sources.get(component, source)
        self.sources[component] = source if before is source else Source.ESTIMATED

    @property
    def joules(self) -> dict[str, float]:
        return {component: value / MICRO for component, value in self.microjoules.items()}

    @property
    def total_joules(self) -> float:
        return sum(self.microjoules.values()) / MICRO
