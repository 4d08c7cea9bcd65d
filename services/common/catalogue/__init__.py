"""Every metric of every service, once: what ``/metrics`` shows, what docs/metrics.md says and what queries may name. Pure."""

from __future__ import annotations

from services.common.catalogue import edge, policy, shared, verifier
from services.common.catalogue.metric import Metric, Service

__all__ = ["ALL", "Metric", "Service", "owned_by"]

ALL: tuple[Metric, ...] = tuple(
    found for module in (shared, edge, verifier, policy) for found in vars(module).values() if isinstance(found, Metric)
)


def owned_by(service: Service) -> tuple[Metric, ...]:
    """What the ``/metrics`` of ``service`` consists of."""
    return tuple(metric for metric in ALL if service in metric.owners)
