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
    """The policy decides from this Prometheus, changes its knobs, and the edge worker's knobs are those."""
    load = site.load("steered", LOAD_SECONDS)
    pod = site.release.pod("policy")
    here = f'{{namespace="{NAMESPACE}"}}'

    def changes() -> float | None:
        return site.prometheus.value(f"sum(sluice_policy_changes_total{here})")

    def followed() -> bool:
        ours = [site.prometheus.value(f"max({name}{here})") for name in ("sluice_knob_k", "sluice_knob_gamma")]
        theirs = [site.prometheus.value(f"max({name}{here})") for name in ("sluice_policy_k", "sluice_policy_gamma")]
        return None not in ours and ours == theirs and bool(site.prometheus.value(f"min(sluice_policy_followed{here})"))

    changed = wait_until("the policy changes a knob", changes, LOAD_SECONDS, 2)
    wait_until("the edge worker goes by the policy's knobs", followed, LOAD_SECONDS, 2)
    shown = json.loads(site.kube.exec(pod, NAMESPACE, "sluice", "policy", "show", "--json"))
    counted = site.prometheus.query(f"sum by (source) (sluice_policy_decisions_total{here})")
    load.outcome()
    return {"changes": changed, "decisions": {labels["source"]: value for labels, value in counted}, "in_force": shown}


def _recorded() -> list[str]:
    text = (ROOT / "infra" / "prometheus" / "recording.rules.yml").read_text()
    groups: list[dict[str, Any]] = yaml.safe_load(text)["groups"]
    return [rule["record"] for group in groups for rule in group["rules"]]


def _empty(site: Site, rules: list[str]) -> list[str]:
    return [name for name in rules if not site.prometheus.query(name)]
