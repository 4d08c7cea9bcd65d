"""The chart's own monitors and rules in the Prometheus operator, the dashboards' queries, an alert, and the policy."""

from __future__ import annotations

import json
import time
from typing import Any

import yaml

from tests.dashboards.files import filled, queries
from tests.kubernetes.images import ROOT
from tests.kubernetes.release import COMPONENTS, NAMESPACE, RELEASE
from tests.kubernetes.shell import wait_until
from tests.kubernetes.site import Figures, Site

ALERT = "SluiceBreakerOpen"
ALERT_SECONDS = 420.0
LOAD_SECONDS = 150.0


def scraped(site: Site, wrong: list[str]) -> Figures:
    """Each ready pod is a target that is up; under load each recording rule gives a value, and each panel shows something."""
    pods = {pod: component for component in COMPONENTS for pod in site.release.pods(component)}

    def all_up() -> bool:
        found = {t["labels"].get("pod"): t for t in site.prometheus.targets() if t["labels"].get("namespace") == NAMESPACE}
        return all(found.get(pod, {}).get("health") == "up" for pod in pods)

    wait_until("every pod is an up target", all_up, 120)
    jobs = {t["labels"]["pod"]: t["labels"]["job"] for t in site.prometheus.targets() if t["labels"].get("pod") in pods}
    wrong.extend(f"{pod} is scraped as {jobs[pod]}" for pod, component in pods.items() if jobs[pod] != f"sluice-{component}")
    load = site.load("observed", LOAD_SECONDS)
    rules = _recorded()
    wait_until("every recording rule has a value", lambda: not _empty(site, rules), LOAD_SECONDS)
    empty = _empty(site, rules)
    wrong.extend(f"the recording rule {name} gives nothing" for name in empty)
    asked = [(asked.where, filled(asked.expr, NAMESPACE)) for asked in queries()]
    blank = [where for where, text in asked if "annotation" not in where and not site.prometheus.query(text)]
    wrong.extend(f"nothing to show: {where}" for where in blank)
    load.outcome()
    return {"up_targets": len(pods), "recording_rules": len(rules), "dashboard_queries": len(asked), "empty_queries": blank}


def alert(site: Site, wrong: list[str]) -> Figures:
    """The verifiers are gone: the alert fires; they are back: it clears."""
    load = site.load("alert", 2 * ALERT_SECONDS)
    began = time.monotonic()
    deployment = f"deployment/{RELEASE}-verifier"
    site.kube.call("scale", deployment, "-n", NAMESPACE, "--replicas=0")
    wait_until(f"{ALERT} fires", lambda: site.prometheus.alert(ALERT) == "firing", ALERT_SECONDS, 1)
    fired = time.monotonic() - began
    others = sorted({rule["name"] for rule in site.prometheus.rules() if rule.get("state") == "firing"})
    site.kube.call("scale", deployment, "-n", NAMESPACE, "--replicas=1")
    wait_until(f"{ALERT} clears", lambda: site.prometheus.alert(ALERT) == "inactive", ALERT_SECONDS, 1)
    cleared = time.monotonic() - began
    load.end()
    return {"alert": ALERT, "fired_after_seconds": fired, "cleared_after_seconds": cleared, "firing_then": others}


def steered(site: Site, wrong: list[str]) -> Figures:
    """The policy decides from this Prometheus, and answers follow it."""
    load = site.load("steered", LOAD_SECONDS)
    (pod,) = site.release.pods("policy")

    def version() -> int:
        account = site.ask(max_tokens=40)["sluice"]
        return int(account.get("policy_version") or 0)

    followed = wait_until("an answer follows the policy", version, LOAD_SECONDS, 2)
    gamma = f'sluice_policy_gamma{{namespace="{NAMESPACE}"}}'
    moved = f"max(max_over_time({gamma}[10m]) - min_over_time({gamma}[10m]))"
    change = wait_until("the policy moves gamma", lambda: site.prometheus.value(moved), LOAD_SECONDS, 2)
    shown = site.kube.exec(pod, NAMESPACE, "sluice", "policy", "show", "--json")
    counted = site.prometheus.query("sum by (source) (sluice_policy_decisions_total)")
    decisions = {labels["source"]: value for labels, value in counted}
    if not any(value for source, value in decisions.items() if source not in ("hold", "safe", "override")):
        wrong.append(f"the policy decided nothing from inputs: {decisions}")
    load.outcome()
    return {
        "policy_version_of_an_answer": followed,
        "gamma_moved_by": change,
        "decisions": decisions,
        "shown": json.loads(shown),
    }


def _recorded() -> list[str]:
    text = (ROOT / "infra" / "prometheus" / "recording.rules.yml").read_text()
    groups: list[dict[str, Any]] = yaml.safe_load(text)["groups"]
    return [rule["record"] for group in groups for rule in group["rules"]]


def _empty(site: Site, rules: list[str]) -> list[str]:
    return [name for name in rules if not site.prometheus.query(name)]
