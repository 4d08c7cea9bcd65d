"""All dashboards, as Grafana reads them. Pure but for the runbook's text."""

from __future__ import annotations

import json
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from services.dashboards import edge_workers, energy, fleet, frame, gate, kafka_redis, policy, runbook, verifiers

PAGES = (fleet.page, gate.page, edge_workers.page, verifiers.page, policy.page, energy.page, kafka_redis.page)


def dashboards() -> dict[str, dict[str, Any]]:
    """By uid."""
    built = [*(frame.assemble(page()) for page in PAGES), runbook.assemble(runbook.FILE.read_text())]
    found = map(plain, built)
    return {content["uid"]: content for content in found}


def plain(built: dashboard.Dashboard) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(JSONEncoder().encode(built.build()))
    _show_links(content)
    return content


def _show_links(node: Any) -> None:
    """The library puts every link and annotation switch into a menu, where nobody looks for them."""
    if isinstance(node, dict):
        if node.get("placement") == "inControlsMenu":
            del node["placement"]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            _show_links(child)
