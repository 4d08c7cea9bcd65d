"""PromQL out of the catalogue's metrics: each query filters by the dashboards' variables. Pure.

Label ``namespace`` may be absent (it is without Kubernetes): the variable's "All" is ``.*``, which an absent label matches, and
joins over it hold for series that have none.
"""

from __future__ import annotations

from services.common.catalogue import edge, verifier
from services.common.catalogue.metric import Kind, Metric

RATE = "$__rate_interval"
NAMESPACE = 'namespace=~"$namespace"'
DEVICE_CLASS = 'device_class=~"$device_class"'
INSTANCE = 'instance=~"$instance"'
UP = f'up{{{NAMESPACE}, job=~"(.+/)?sluice-.+"}}'  # the Prometheus operator may put the namespace before a job's name


def pick(metric: Metric | str, *matchers: str, **labels: str) -> str:
    """The series of a metric, or of a name, in the chosen namespaces. ``labels``: those that must have this value."""
    name = metric if isinstance(metric, str) else metric.series
    exact = (f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{', '.join((NAMESPACE, *matchers, *exact))}}}"


def rate(metric: Metric, *matchers: str, window: str = RATE, **labels: str) -> str:
    """Of a counter, a second."""
    return f"rate({pick(_counter(metric), *matchers, **labels)}[{window}])"


def increase(metric: Metric, *matchers: str, window: str, **labels: str) -> str:
    return f"increase({pick(_counter(metric), *matchers, **labels)}[{window}])"


def total(expression: str, *by: str) -> str:
    return f"sum{_by(by)} ({expression})"


def ratio(part: str, whole: str, on: str = "") -> str:
    """Without a sample where ``whole`` is 0. ``on``: the matching of the two, if they have other labels."""
    return f"{part} / {on + ' ' if on else ''}({whole} > 0)"


def some(expression: str) -> str:
    """Without the series that are 0: there are many names, and few that ever count."""
    return f"({expression} > 0)"


def mean(histogram: Metric, *matchers: str, by: tuple[str, ...] = ()) -> str:
    part, whole = (f"rate({pick(f'{histogram.name}_{end}', *matchers)}[{RATE}])" for end in ("sum", "count"))
    return ratio(total(part, *by), total(whole, *by))


def quantile(share: float, histogram: Metric, *matchers: str, whole: bool = False) -> str:
    """``whole``: over all the time shown, for what is rare."""
    return quantile_of(share, buckets(histogram, *matchers, whole=whole))


def quantile_of(share: float, counted: str, *by: str) -> str:
    """``counted``: buckets of a histogram."""
    return f"histogram_quantile({share:g}, {total(counted, 'le', *by)})"


def buckets(histogram: Metric, *matchers: str, whole: bool = False) -> str:
    if histogram.kind is not Kind.HISTOGRAM:
        raise TypeError(f"{histogram.name} is no histogram")
    series = pick(f"{histogram.name}_bucket", *matchers)
    return f"increase({series}[$__range])" if whole else f"rate({series}[{RATE}])"


def of_class(expression: str) -> str:
    """Series of edge workers, with their device class, of the chosen classes: they carry it on one gauge only."""
    return f"{expression} * on (namespace, instance) group_left (device_class) {_group(edge.GAMMA_BOUND, DEVICE_CLASS)}"


def of_verifiers(expression: str, *matchers: str) -> str:
    """Those of verifiers among series that edge workers have too."""
    return f"{expression} * on (namespace, instance) group_left () {_group(verifier.PARTITIONS, *matchers)}"


def _group(metric: Metric, *matchers: str) -> str:
    by = ("namespace", "instance", *(("device_class",) if metric is edge.GAMMA_BOUND else ()))
    return f"group{_by(by)} ({pick(metric, *matchers)})"


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""


def _counter(metric: Metric) -> Metric:
    if metric.kind is not Kind.COUNTER:
        raise TypeError(f"{metric.name} is no counter")
    return metric
