"""Figures that several dashboards show, as PromQL. Pure.

Those with a recording rule behind them are what alerts go by. A budget is what the policy service says that it is."""

from __future__ import annotations

from services.common.catalogue import edge, policy, shared, verifier
from services.dashboards.parts import Query
from services.dashboards.promql import NAMESPACE, mean, of_verifiers, pick, rate, total

GOODPUT = f"sum (sluice:goodput_tokens:rate1m{{{NAMESPACE}}})"
UNVERIFIED = f"max (sluice:unverified_tokens:ratio_rate5m{{{NAMESPACE}}})"
DAMAGE = f"max by (device_class) (sluice:damage_per_token:ratio_rate5m{{{NAMESPACE}}})"  # per answered token
BUSY = f"avg ({rate(verifier.ENGINE_BUSY)})"
ROUND_TRIP_P95 = f"max (sluice:round_trip_seconds:p95_rate5m{{{NAMESPACE}}})"
TOKENS = total(rate(edge.TOKENS))
JOULES_PER_TOKEN = f"max (sum by (namespace) (sluice:joules_per_token:rate5m{{{NAMESPACE}}}))"
POOL_WATTS = total(of_verifiers(rate(shared.ENERGY)))
# What became of a token, and its colour.
DECISIONS = {"skipped": "blue", "accepted": "green", "corrected": "orange", "bonus": "light-green", "unverified": "red"}
# Where the time of a round goes, each by its mean.
SEGMENTS = {
    "draft": mean(edge.ROUND_DRAFT),
    "uplink": mean(edge.ROUND_UPLINK),
    "queue": mean(edge.ROUND_QUEUE),
    "verify": mean(edge.ROUND_VERIFY),
    "downlink": mean(edge.ROUND_DOWNLINK),
}


def budget(name: str) -> str:
    """One sample, or none where it is not set."""
    return f"max ({pick(policy.LIMIT, budget=name)})"


def limit(name: str) -> Query:
    """The budget as a line."""
    return Query(budget(name), "budget", limit=True)


def use(measured: str, name: str) -> str:
    """As a share of the budget."""
    return f"({measured}) / on () group_left () {budget(name)}"
