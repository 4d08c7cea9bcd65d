"""What the policy service counts and shows."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from services.common.catalogue import policy as names
from services.common.meters import Meters
from services.policy.budgets import PRIORITY, Budgets
from services.policy.decision import Decision, Source


class PolicyMetrics:
    """One registry, injected; what each of them shows is in ``catalogue.policy``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        meters = Meters(registry)
        self.k = meters.gauge(names.K)
        self.gamma = meters.gauge(names.GAMMA)
        self.gamma_max = meters.gauge(names.GAMMA_MAX)
        self.infeasible = meters.gauge(names.INFEASIBLE)
        self.limit = meters.gauge(names.LIMIT)
        self.devices = meters.gauge(names.DEVICES)
        self.decisions = meters.counter(names.DECISIONS)
        self.changes = meters.counter(names.CHANGES)
        self.price = meters.gauge(names.PRICE)
        self.leading = meters.gauge(names.LEADING)
        self.version = meters.gauge(names.VERSION)
        self.age = meters.gauge(names.INPUT_AGE)
        self.left_out = meters.gauge(names.LEFT_OUT)
        self.collect = meters.histogram(names.COLLECT)
        self.collect_failures = meters.counter(names.COLLECT_FAILURES)

    def bounded(self, budgets: Budgets) -> None:
        """The budgets that there are, for panels to draw beside what is measured."""
        limits = (
            budgets.damage,
            budgets.utilisation,
            budgets.watts,
            budgets.round_trip_seconds,
            budgets.joules_per_token,
        )
        for name, limit in zip(PRIORITY, limits, strict=True):
            if limit is not None:
                self.limit.labels(name).set(limit)

    def decided(self, decision: Decision) -> None:
        name = decision.device_class
        self.k.labels(name).set(decision.k)
        self.gamma.labels(name).set(decision.gamma)
        self.gamma_max.labels(name).set(decision.gamma_max)
        for source in Source:  # a class begins at 0: a rate sees its first decision
            self.decisions.labels(name, source.value).inc(source is decision.source)
        self.price.set(decision.price)
        for budget in PRIORITY:
            self.infeasible.labels(name, budget).set(budget in decision.infeasible)
        self.changes.labels(name).inc(decision.changed)
        if "devices" in decision.inputs:
            self.devices.labels(name).set(decision.inputs["devices"][0])
        else:
            self.devices.remove(name)
        if decision.inputs:
            self.age.labels(name).set(max(age for _, age in decision.inputs.values()))
