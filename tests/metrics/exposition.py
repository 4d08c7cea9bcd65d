"""What the ``/metrics`` of a service must look like: what the catalogue says that it owns, all of it and nothing else."""

from __future__ import annotations

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families

from services.common.catalogue import Metric, Service, owned_by

_ADDED = {"le"}  # by the kind of a metric, not by the catalogue


def complaints(text: str, service: Service) -> list[str]:
    """One line for each difference between ``text`` and the catalogue; none: it is as it should be."""
    shown = {_name(family): family for family in text_string_to_metric_families(text)}
    owned = {metric.name: metric for metric in owned_by(service)}
    out = [f"{name} is not in the catalogue" for name in sorted(shown.keys() - owned.keys())]
    out += [f"{name} is missing" for name in sorted(owned.keys() - shown.keys())]
    for name in sorted(shown.keys() & owned.keys()):
        out += [f"{name}: {what}" for what in _differences(shown[name], owned[name])]
    return out


def _name(family: Family) -> str:
    return str(family.name)


def _differences(family: Family, metric: Metric) -> list[str]:
    out = []
    if family.type != metric.kind.value:
        out.append(f"a {family.type}, not a {metric.kind.value}")
    if family.documentation != metric.help:
        out.append("another help")
    allowed = {label.name: label.values for label in metric.labels}
    for sample in family.samples:
        if sample.name not in metric.samples:
            out.append(f"sample {sample.name}")
        if sample.labels.keys() - _ADDED != allowed.keys():
            out.append(f"labels {sorted(sample.labels)}")
        out += [f"{n}={v}" for n, v in sample.labels.items() if n not in _ADDED and allowed.get(n) and v not in allowed[n]]
    return out
