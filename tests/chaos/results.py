"""The figures of one whole run, as one JSON object."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

from tests.chaos.hostile import HostileFigures
from tests.chaos.kills import KillFigures
from tests.chaos.outages import OutageFigures
from tests.chaos.real_model import RealFigures
from tests.chaos.scaling import ScalingFigures
from tests.chaos.soak import SoakFigures

F = TypeVar("F")
PRODUCTION = "kills at the production deadline"
Figures = KillFigures | RealFigures | ScalingFigures | OutageFigures | HostileFigures | SoakFigures


@dataclass
class Results:
    """``parts``: name of a scenario to its figures. ``failures``: what was not met, by scenario."""

    parts: dict[str, Figures] = field(default_factory=dict)
    failures: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, figures: Figures, failures: list[str]) -> None:
        self.parts[name] = figures
        if failures:
            self.failures[name] = failures

    def summary(self) -> dict[str, Any]:
        """Sums over all parts; but ``streams_different`` is of kills with a patient deadline (only there equality is promised),
        and ``unverified_share`` of the kills at the production deadline.
        """
        kills: list[KillFigures | RealFigures] = [*self._of(KillFigures), *self._of(RealFigures)]
        scalings, outages = self._of(ScalingFigures), self._of(OutageFigures)
        hostile, soaks = self._of(HostileFigures), self._of(SoakFigures)
        production = self.parts.get(PRODUCTION)
        others: list[ScalingFigures | OutageFigures | SoakFigures] = [*scalings, *outages, *soaks]
        counted: list[KillFigures | RealFigures | ScalingFigures | SoakFigures] = [*kills, *scalings, *soaks]
        behind = [p for f in kills for p in f.partitions_behind] + [p for f in others for p in f.partitions_behind]
        return {
            "kills": sum(f.kills for f in kills),
            "answers": sum(f.answers for f in kills) + sum(f.answers for f in others) + sum(f.good_answers for f in hostile),
            "answers_lost": sum(f.answers_lost for f in kills)
            + sum(f.answers_failed for f in others)
            + sum(f.good_failed for f in hostile),
            "tokens_committed_twice": sum(f.tokens_committed_twice for f in self._of(KillFigures)),
            "streams_different": sum(f.streams_different for f in kills if isinstance(f, RealFigures) or f.patient),
            "hostile_messages": sum(f.messages for f in hostile),
            "dead_letters": sum(f.dead_letters for f in hostile),
            "consumer_crashes": sum(f.crashes for f in counted)
            + sum(f.restarted for f in outages)
            + sum(f.consumer_crashes for f in hostile),
            "stalled_partitions": len(behind) + sum(len(f.stalled_partitions) for f in hostile),
            "outages": len(outages),
            "outage_answers_failed": sum(f.answers_failed for f in outages),
            "unverified_share": round(production.unverified_share, 4) if isinstance(production, KillFigures) else None,
            "soak_seconds": sum(f.seconds for f in soaks),
            "leaks": sum(len(f.leaks) for f in soaks),
            "details": {name: rounded(f) for name, f in self.parts.items()},
            "failures": self.failures,
            "machine": machine(),
        }

    def _of(self, kind: type[F]) -> list[F]:
        return [f for f in self.parts.values() if isinstance(f, kind)]


def rounded(value: Any) -> Any:
    """The same with four digits that count; a dataclass becomes a mapping."""
    if is_dataclass(value) and not isinstance(value, type):
        return rounded(asdict(value))
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def machine() -> dict[str, object]:
    """Figures of different machines never compare."""
    names = [line.split(":", 1)[1].strip() for line in _cpuinfo().splitlines() if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""
