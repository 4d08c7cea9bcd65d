"""One decision, as it is published and logged. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


class Source(enum.StrEnum):
    """Who chose."""

    CONTROL = "control"
    HOLD = "hold"  # inputs are missing: the last setting stays for a while
    SAFE = "safe"  # they have been missing for too long
    OVERRIDE = "override"  # a person


@dataclass(frozen=True)
class Decision:
    """The knobs of one class. ``gamma_max``: the risk limit; ``infeasible``: budgets that cannot be met, in the order of their
    priority; ``old``: knobs before; ``inputs``: value and age of each reading that it rests on."""

    device_class: str
    k: int
    gamma: float
    reason: str
    source: Source
    gamma_max: float
    infeasible: tuple[str, ...] = ()
    old: tuple[int, float] | None = None
    price: float = 0.0
    predicted: Mapping[str, float] = field(default_factory=dict)
    inputs: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        return self.old is not None and self.old != (self.k, self.gamma)

    def to_json(self) -> dict[str, Any]:
        raw = asdict(self)
        rounded = {name: [_short(v), _short(age)] for name, (v, age) in self.inputs.items()}
        return {
            **raw,
            "source": self.source.value,
            "inputs": rounded,
            "predicted": {n: _short(v) for n, v in self.predicted.items()},
        }


def _short(value: float) -> float:
    return float(f"{value:.6g}")


@dataclass(frozen=True)
class Override:
    """A person's setting of one class until ``expires_at`` (seconds of the controller's clock)."""

    k: int
    gamma: float
    expires_at: float
    reason: str = ""
