"""Every knob of the policy service: environment variables with the prefix ``SLUICE_POLICY_``."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from services.common.drift.adaptive import MOST_GAMMA
from services.common.redis_client import RedisSettings
from services.common.tracing import TracedSettings
from services.policy.budgets import Budgets
from services.policy.controller import Bounds, Plan
from services.policy.damping import Calm
from services.policy.model import Edge
from services.policy.publisher import Times
from services.policy.queries import Fleet, Windows

MATCHERS = (
    r'^( *[a-zA-Z_][a-zA-Z0-9_]* *(=|!=|=~|!~) *"[^"\\\n]*" *(, *[a-zA-Z_][a-zA-Z0-9_]* *(=|!=|=~|!~) *"[^"\\\n]*" *)*)?$'
)


class PolicySettings(RedisSettings, TracedSettings):
    """Built in ``__main__`` and passed down. Contradictory values are refused."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_POLICY_", extra="ignore")

    # Sensors
    prometheus_url: str = Field(
        default="http://127.0.0.1:9090", pattern=r"^https?://", description="address of the Prometheus that scrapes the fleet"
    )
    prometheus_token: SecretStr = Field(default=SecretStr(""), description="bearer token for it; empty: none")
    edges: str = Field(
        default="",
        pattern=MATCHERS,
        description='label matchers of the edge workers\' scrape targets (job="edge-worker"), so that no edge can pass for a '
        "verifier, and another installation on the same Prometheus is not counted; empty: whoever has an edge's metrics",
    )
    verifiers: str = Field(default="", pattern=MATCHERS, description="likewise of the verifiers' targets")
    prometheus_timeout_seconds: float = Field(default=3.0, gt=0, description="longest wait for one answer of it")
    scrape_seconds: float = Field(default=5.0, gt=0, description="its scrape interval for the series of the control loop")
    window_seconds: float = Field(default=20.0, gt=0, description="window of rates; three scrapes at least")
    fast_seconds: float = Field(
        default=10.0, gt=0, description="window of the damage that must see a drift; two scrapes at least"
    )
    oldest_seconds: float = Field(default=20.0, gt=0, description="an input older than this counts as missing")
    hold_seconds: float = Field(
        default=60.0, ge=0, description="without inputs the knobs stay this long, then the safe setting"
    )

    # The loop
    decide_seconds: float = Field(default=5.0, gt=0, description="time between two decisions")
    smooth_seconds: float = Field(default=15.0, ge=0, description="time constant of the averages of inputs; 0: none")
    dwell_seconds: float = Field(default=10.0, ge=0, description="least time between two changes of a knob")
    turn_seconds: float = Field(default=60.0, ge=0, description="least time before gamma turns back, unless a budget is broken")
    band: float = Field(default=0.04, ge=0, lt=1, description="relative change of gamma below which it stays")
    quality: float = Field(
        default=0.01, ge=0, le=10, description="goodput given for quality: share of it that a damage at the limit is worth"
    )

    # Budgets
    damage_budget: float = Field(default=0.05, gt=0, le=1, description="largest damage of an answered token")
    utilisation_budget: float | None = Field(default=0.8, gt=0, le=1, description="largest busy share of the verifiers")
    watts_budget: float | None = Field(default=None, gt=0, description="largest power of all verifiers together")
    round_trip_budget_seconds: float | None = Field(default=None, gt=0, description="largest 95th percentile of round trips")
    joules_per_token_budget: float | None = Field(default=None, gt=0, description="largest energy of a token on the device")
    margin: float = Field(default=0.03, ge=0, lt=1, description="share of each budget that is kept free")
    idle_watts: float = Field(default=0.0, ge=0, description="power of one verifier that has nothing to do")

    # Bounds
    k_max: int = Field(default=8, ge=1, le=16, description="largest k")
    gamma_min: float = Field(default=0.0, ge=0, lt=MOST_GAMMA, description="smallest gamma")
    gamma_max: float = Field(
        default=MOST_GAMMA,
        gt=0,
        le=MOST_GAMMA,
        description="largest gamma, whatever the risk limit says; no edge follows beyond 1, the calibrated point",
    )
    safe_k: int = Field(default=4, ge=1, le=16, description="k where inputs have been missing for too long")
    safe_gamma: float = Field(default=MOST_GAMMA, ge=0, le=MOST_GAMMA, description="gamma there; 1 is the calibrated point")

    # What edges do, as their settings of the same names
    tau_u: float = Field(default=0.69, gt=0, le=1, description="threshold of the edges' gate at gamma 1")
    wait_tokens: int = Field(default=12, ge=1, le=256, description="edges' `wait_tokens`")
    risk: float = Field(default=0.8, gt=0, lt=1, description="edges' `risk`")

    # Publishing
    lease_ms: int = Field(
        default=15_000, ge=1_000, description="milliseconds until another process may take over from a dead one"
    )
    record_ms: int = Field(default=30_000, ge=1_000, description="milliseconds that edges go by a decision")
    log_entries: int = Field(default=10_000, ge=16, description="decisions (about) that the stream in Redis keeps")
    log_file: Path | None = Field(default=None, description="file of decisions as JSON lines; none: they go to the log")
    log_file_bytes: int = Field(default=16 * 1024 * 1024, ge=4096, description="size at which it is renamed to FILE.1")
    redis_timeout_ms: int = Field(default=2_000, ge=10, description="milliseconds until a command to Redis is given up")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.window_seconds < 3 * self.scrape_seconds:
            raise ValueError("WINDOW_SECONDS below three times SCRAPE_SECONDS: a rate over it would often be empty")
        if not 2 * self.scrape_seconds <= self.fast_seconds <= self.window_seconds:
            raise ValueError("FAST_SECONDS must lie between twice SCRAPE_SECONDS and WINDOW_SECONDS")
        if self.lease_ms < 2 * 1000 * self.decide_seconds:
            raise ValueError("LEASE_MS below twice DECIDE_SECONDS: the lease would run out between two decisions")
        if self.record_ms < 2 * 1000 * self.decide_seconds:
            raise ValueError("RECORD_MS below twice DECIDE_SECONDS: edges would fall back between two decisions")
        if self.gamma_min >= self.gamma_max:
            raise ValueError("GAMMA_MIN must be below GAMMA_MAX")
        if not self.gamma_min <= self.safe_gamma <= self.gamma_max:
            raise ValueError("SAFE_GAMMA must lie between GAMMA_MIN and GAMMA_MAX")
        if self.safe_k > self.k_max:
            raise ValueError("SAFE_K is above K_MAX")
        return self

    @property
    def plan(self) -> Plan:
        bounds = Bounds(
            k_max=self.k_max,
            gamma_min=self.gamma_min,
            gamma_max=self.gamma_max,
            safe_k=self.safe_k,
            safe_gamma=self.safe_gamma,
        )
        budgets = Budgets(
            damage=self.damage_budget,
            utilisation=self.utilisation_budget,
            watts=self.watts_budget,
            round_trip_seconds=self.round_trip_budget_seconds,
            joules_per_token=self.joules_per_token_budget,
            margin=self.margin,
        )
        return Plan(
            bounds=bounds,
            budgets=budgets,
            calm=Calm(dwell_seconds=self.dwell_seconds, turn_seconds=self.turn_seconds, band=self.band),
            edge=Edge(tau_u=self.tau_u, wait_tokens=self.wait_tokens, risk=self.risk),
            quality=self.quality,
            window_seconds=self.window_seconds,
            fast_seconds=self.fast_seconds,
            smooth_seconds=self.smooth_seconds,
            oldest_seconds=self.oldest_seconds,
            hold_seconds=self.hold_seconds,
            idle_watts=self.idle_watts,
        )

    @property
    def windows(self) -> Windows:
        return Windows(self.window_seconds, self.fast_seconds, self.scrape_seconds)

    @property
    def fleet(self) -> Fleet:
        return Fleet(self.edges, self.verifiers)

    @property
    def times(self) -> Times:
        return Times(self.lease_ms, self.record_ms, self.log_entries)
