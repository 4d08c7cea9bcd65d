"""docs/metrics.md out of the catalogue: `python -m services.cli.metrics_doc` writes it (`make docs`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from services.common.catalogue import ALL, Metric, Service
from services.common.catalogue.metric import Label

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
_HEAD = """# Metrics

Each service shows its metrics at `/metrics` of its `METRICS_HOST` and `METRICS_PORT`, in the text format of Prometheus; an edge
worker also at its API's port. A counter's samples end in `_total`, those of a histogram in `_bucket`, `_sum` and `_count`.
Counters only grow, and ratios are left to queries: goodput is `sum(rate(sluice_good_tokens_total[1m]))`. The number of series
is bounded: a label has the values that stand here, or as many as an operator names. Pages go out packed (gzip) to whoever
reads that, as Prometheus does; what metrics cost in processor time stands in
[benchmarks/README.md](../benchmarks/README.md). This page is made from `services/common/catalogue` by `make docs`.

Recording and alert rules are in `infra/prometheus`; [runbook.md](runbook.md) says what to do about each alert,
and [dashboards.md](dashboards.md) how to see it all in Grafana.
"""
_TAIL = """## Traces

With `SLUICE_EDGE_OTLP_ENDPOINT`, `SLUICE_VERIFIER_OTLP_ENDPOINT` and `SLUICE_POLICY_OTLP_ENDPOINT` set, OpenTelemetry traces go
there by OTLP over HTTP (extra `otlp`).

| span | under | by | what it is |
|---|---|---|---|
| `answer` | the client's span, if its request names one | edge worker | the whole answer |
| `draft`, `uplink`, `downlink` | `answer` | edge worker | segments of a round with a verdict |
| `queue`, `verify` | `answer` | verifier, told of the parent by the session's opening | the other two segments |
| `lost` | `answer` | edge worker | an attempt at a round that got no usable verdict: `sluice.cause` |
| `policy turn` |  | policy | one turn of the control loop |
| `collect`, `look`, `decide`, `publish` | `policy turn` | policy | its parts; `look`: at the lease and at overrides |
| `decision` | `policy turn` | policy | knobs, source and reason for one class of devices |

Attributes of an answer's spans: `sluice.session`, `sluice.round`, `sluice.attempt`, counts of tokens, how it ended; never text
or token ids.

A request's `traceparent` header (W3C Trace Context) is taken over: `answer` is then a child of the client's span, and is traced
if, and only if, the client's flag says so. `SLUICE_EDGE_TRACE_SHARE` is the share that is traced of the other answers. Strip
the header at your proxy where clients are not to decide. Times are those of each machine's own clock. While the collector is
away, spans are dropped and answers go on.
"""
_TITLES = {Service.EDGE: "Edge worker", Service.VERIFIER: "Verifier", Service.POLICY: "Policy"}


def page() -> str:
    everybody = tuple(Service)
    parts = [_HEAD, _table("Every service", [m for m in ALL if m.owners == everybody])]
    for service, title in _TITLES.items():
        parts.append(_table(title, [m for m in ALL if service in m.owners and m.owners != everybody]))
    return "\n".join([*parts, _TAIL])


def _table(title: str, metrics: list[Metric]) -> str:
    head = [f"## {title}", "", "| metric | type | unit | labels | meaning |", "|---|---|---|---|---|"]
    labels = {label.name + str(label.values): label for metric in metrics for label in metric.labels}
    values = [f"- `{label.name}`: {_values(label)}{_used(label, metrics)}" for label in labels.values()]
    return "\n".join([*head, *_rows(metrics), *(["", "Labels:", "", *values] if values else [])]) + "\n"


def _rows(metrics: list[Metric]) -> Iterator[str]:
    for m in metrics:
        labels = ", ".join(f"`{label.name}`" for label in m.labels)
        yield f"| `{m.series}` | {m.kind.value} | {m.unit} | {labels} | {m.help.replace('|', '/')} |"


def _values(label: Label) -> str:
    return ", ".join(f"`{value}`" for value in label.values) if label.values else label.bound


def _used(label: Label, metrics: list[Metric]) -> str:
    """Which metrics, where another label of the table has the same name."""
    if len({one.values for m in metrics for one in m.labels if one.name == label.name}) < 2:
        return ""
    return " (" + ", ".join(f"`{m.series}`" for m in metrics if label in m.labels) + ")"


if __name__ == "__main__":
    PAGE.write_text(page())
