"""Questions to the Prometheus in the cluster."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from tests.kubernetes.kube import Kube
from tests.kubernetes.shell import Failed

NAMESPACE, SERVICE, PORT = "monitoring", "prometheus", 9090


class Prometheus:
    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    def query(self, text: str, at: float | None = None) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each sample; ``at``: seconds since 1970, none: now."""
        path = f"query?query={quote(text, safe='')}" + (f"&time={at}" if at is not None else "")
        result = self._ask(path)["result"]
        return [(sample["metric"], float(sample["value"][1])) for sample in result]

    def value(self, text: str, at: float | None = None) -> float | None:
        """The only sample's value; None where there is none."""
        found = self.query(text, at)
        return found[0][1] if len(found) == 1 else None

    def targets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("targets?state=active")["activeTargets"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def alert(self, name: str) -> str:
        """``inactive``, ``pending`` or ``firing``."""
        states = [str(rule["state"]) for rule in self.rules() if rule["name"] == name]
        if not states:
            raise Failed(f"Prometheus has no alert {name}")
        return states[0]

    def _ask(self, path: str) -> Any:
        answer = json.loads(self._kube.ask(SERVICE, NAMESPACE, PORT, f"/api/v1/{path}"))
        if answer["status"] != "success":
            raise Failed(f"Prometheus: {answer.get('error', answer)}")
        return answer["data"]
