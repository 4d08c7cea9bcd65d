"""The dashboards as they are in their files, and what they ask Prometheus."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "infra" / "grafana" / "dashboards"
DASHBOARDS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
_LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")


@dataclass(frozen=True)
class Asked:
    """One query, with Grafana's variables in it. ``where``: dashboard and panel."""

    where: str
    legend: str
    expr: str
    instant: bool = False


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All but the headings of rows."""
    for panel in dashboard["panels"]:
        if panel["type"] != "row":
            yield panel
        yield from panel.get("panels", ())


def queries() -> list[Asked]:
    """Those of panels and of annotations."""
    found = []
    for name, dashboard in DASHBOARDS.items():
        for panel in panels(dashboard):
            for target in panel.get("targets", ()):
                where = f"{name} / {panel['title']}"
                found.append(Asked(where, target["legendFormat"], target["expr"], target.get("instant", False)))
        found += [
            Asked(f"{name} / annotation {note['name']}", note["textFormat"], note["target"]["expr"])
            for note in dashboard["annotations"].get("list", ())
        ]
    return found


def variables() -> list[tuple[str, str, str]]:
    """Name, selector and label of each variable that Prometheus is asked for."""
    found = []
    for dashboard in DASHBOARDS.values():
        for variable in dashboard["templating"].get("list", ()):
            if variable["type"] == "query":
                match = _LABEL_VALUES.fullmatch(variable["query"])
                assert match is not None, variable["query"]
                found.append((variable["name"], match[1], match[2]))
    return sorted(set(found))


def filled(expr: str, namespace: str = ".*", *, window: str = "20s", whole: str = "10m") -> str:
    """``expr`` as Grafana would send it: everything chosen but the namespace."""
    for name, value in {"$__rate_interval": window, "$__range": whole, "$__interval": window}.items():
        expr = expr.replace(name, value)
    expr = expr.replace("$namespace", namespace)
    return re.sub(r"\$(device_class|instance)\b", ".*", expr)
