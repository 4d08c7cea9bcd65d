"""What the policy service counts and shows."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.policy.budgets import PRIORITY
from services.policy.decision import Decision

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class PolicyMetrics:
    """One registry, injected."""

    def __init__(self, registry: CollectorRegistry) -> None:
        by_class = ["device_class"]
        self.k = Gauge("sluice_policy_k", "Most candidates of one upload, as decided", by_class, registry=registry)
        self.gamma = Gauge("sluice_policy_gamma", "Strictness of the gate, as decided", by_class, registry=registry)
        self.gamma_max = Gauge("sluice_policy_gamma_max", "Risk limit on gamma", by_class, registry=registry)
        self.infeasible = Gauge(
            "sluice_policy_infeasible",
            "1 for a budget that cannot be met together with those before it in the order of priority",
            ["device_class", "budget"],
            registry=registry,
        )
        self.decisions = Counter("sluice_policy_decisions", "Decisions by who chose", ["source"], registry=registry)
        self.changes = Counter("sluice_policy_changes", "Decisions that changed a knob", by_class, registry=registry)
        self.price = Gauge("sluice_policy_price", "Price of the pool's load in log goodput", registry=registry)
        self.leading = Gauge("sluice_policy_leading", "1 while this process holds the lease", registry=registry)
        self.version = Gauge("sluice_policy_version", "Version of the record last published", registry=registry)
        self.age = Gauge("sluice_policy_input_age_seconds", "Age of the oldest input of a class", by_class, registry=registry)
        self.collect = Histogram("sluice_policy_collect_seconds", "One collection", buckets=_SECONDS, registry=registry)
        self.collect_failures = Counter(
            "sluice_policy_collect_failures", "Collections that failed", ["cause"], registry=registry
        )

    def decided(self, decision: Decision) -> None:
        name = decision.device_class
        self.k.labels(name).set(decision.k)
        self.gamma.labels(name).set(decision.gamma)
        self.gamma_max.labels(name).set(decision.gamma_max)
        self.decisions.labels(decision.source.value).inc()
        self.price.set(decision.price)
        for budget in PRIORITY:
            self.infeasible.labels(name, budget).set(budget in decision.infeasible)
        if decision.changed:
            self.changes.labels(name).inc()
        if decision.inputs:
            self.age.labels(name).set(max(age for _, age in decision.inputs.values()))
