"""What one run of the loop is made of and when what happens. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.cli.local.options import StackOptions
from services.loadgen.arrivals import Phase, Schedule

SCRAPE_SECONDS = 5.0  # as in the chart
HOLD_SECONDS = 60.0  # the policy's default; likewise the next ones
WINDOW_SECONDS = 20.0
STEP = 5.0  # times the rate


@dataclass(frozen=True)
class Fleet:
    """Models, processes and load of one kind of run. ``rate``: answers a second before the step; ``edge``, ``verifier``:
    settings of the services, without their prefix; budgets as the policy's settings of the same names."""

    name: str
    about: str
    draft: str | None
    target: str | None
    edge_workers: int
    verifiers: int
    rate: float
    max_tokens: int
    clients: int
    tau_u: float
    damage: float
    utilisation: float
    wait_tokens: int = 12
    risk: float = 0.8
    edge: Mapping[str, str] = field(default_factory=dict)
    verifier: Mapping[str, str] = field(default_factory=dict)

    def stack(self, *, kafka: str | None, redis: str | None) -> StackOptions:
        """The processes, but for Prometheus and the policy."""
        edge = {"TAU_U": f"{self.tau_u:g}", "WAIT_TOKENS": f"{self.wait_tokens}", "RISK": f"{self.risk:g}", **self.edge}
        return StackOptions(
            verifiers=self.verifiers,
            edge_workers=self.edge_workers,
            draft=self.draft,
            target=self.target,
            kafka=kafka,
            redis=redis,
            edge_environment={f"SLUICE_EDGE_{name}": value for name, value in edge.items()},
            verifier_environment={f"SLUICE_VERIFIER_{name}": value for name, value in self.verifier.items()},
        )


FLEETS = {
    fleet.name: fleet
    for fleet in (
        Fleet(
            name="models",
            about="the default pair of models; drafts and passes take what they take on this machine",
            draft=None,
            target=None,
            edge_workers=1,
            verifiers=1,
            rate=0.25,
            max_tokens=48,
            clients=16,
            tau_u=0.4,
            damage=0.12,
            utilisation=0.8,
            edge={"SESSIONS": "32", "AHEAD": "false"},
            verifier={"SLOTS": "32"},
        ),
        Fleet(
            name="synthetic",
            about="devices of 150 ms a token, passes of 60 ms and 1 ms a token: waited for, not computed",
            draft="synthetic",
            target="synthetic",
            edge_workers=2,
            verifiers=2,
            rate=0.5,
            max_tokens=40,
            clients=64,
            tau_u=0.69,
            damage=0.15,
            utilisation=0.8,
            risk=0.95,
            edge={"SESSIONS": "64", "SYNTHETIC_STEP_MS": "150"},
            verifier={"SLOTS": "64", "SYNTHETIC_PASS_MS": "60", "SYNTHETIC_TOKEN_MS": "1"},
        ),
    )
}


@dataclass(frozen=True)
class Times:
    """Seconds of each part: ``before`` the step, during it, ``after`` it, and then ``away`` without Prometheus and ``back``
    with it. ``speed``: the loop's own times (scrape interval, windows, waits) are divided by it, for a quick look."""

    before: float = 90.0
    step: float = 150.0
    after: float = 150.0
    away: float = 110.0
    back: float = 60.0
    speed: float = 1.0

    @property
    def up_at(self) -> float:
        return self.before

    @property
    def down_at(self) -> float:
        return self.before + self.step

    @property
    def away_at(self) -> float | None:
        """``None``: Prometheus stays."""
        return self.down_at + self.after if self.away > 0.0 else None

    @property
    def back_at(self) -> float | None:
        return None if self.away_at is None else self.away_at + self.away

    @property
    def end(self) -> float:
        return self.down_at + self.after if self.back_at is None else self.back_at + self.back

    @property
    def scrape(self) -> float:
        return SCRAPE_SECONDS / self.speed

    @property
    def window(self) -> float:
        return WINDOW_SECONDS / self.speed

    def schedule(self, rate: float) -> Schedule:
        """The load: ``rate``, then ``STEP`` times as much, then ``rate`` again."""
        return Schedule([Phase(0.0, rate), Phase(self.up_at, STEP * rate), Phase(self.down_at, rate)], self.end)

    def policy(self) -> dict[str, str]:
        """Settings of the policy service that have to do with time, without prefix; at ``speed`` 1 its own defaults."""
        if self.speed == 1.0:
            return {}
        values = {
            "SCRAPE_SECONDS": self.scrape,
            "WINDOW_SECONDS": self.window,
            "FAST_SECONDS": 2.0 * self.scrape,
            "OLDEST_SECONDS": self.window,
            "HOLD_SECONDS": HOLD_SECONDS / self.speed,
            "DECIDE_SECONDS": self.scrape,
            "SMOOTH_SECONDS": 3.0 * self.scrape,
            "DWELL_SECONDS": 2.0 * self.scrape,
            "TURN_SECONDS": 12.0 * self.scrape,
        }
        return {name: f"{value:g}" for name, value in values.items()}
