"""Under load: a verifier dies, each Deployment is rolled, the release is upgraded and rolled back. No answer may fail."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.kubernetes.load import Outcome
from tests.kubernetes.release import NAMESPACE, RELEASE
from tests.kubernetes.site import Figures, Site
from tests.kubernetes.watch import Followed, Sampled, when

SESSION_TIMEOUT_SECONDS = 6.0
AFTER_TIMEOUT_SECONDS = 5.0
SCRAPE_SECONDS = 5.0
UNVERIFIED_SHARE = 0.01
CALM_SECONDS = 15.0  # of load before and after what happens
EVENT_SECONDS = 75.0  # what a roll-out may take inside of its load


def _under_load(site: Site, label: str, event: Callable[[], None], wrong: list[str]) -> tuple[Figures, Outcome, float]:
    """Figures, outcome and the time of ``event``, which happens in the midst of a load."""
    seconds = CALM_SECONDS * 2 + EVENT_SECONDS
    load = site.load(label, seconds)
    time.sleep(CALM_SECONDS)  # the load has to be in full swing: nothing tells that
    began = time.time()
    event()
    took = time.time() - began
    outcome = load.outcome()
    if began + took > outcome.started_at + seconds:
        site.record.say(f"{label} outlasted its load by {began + took - outcome.started_at - seconds:.0f} s")
    if outcome.not_complete:
        wrong.append(f"{outcome.not_complete} of {outcome.answers['offered']} answers failed: {outcome.errors}")
    figures = {
        **outcome.figures(),
        "event_seconds": took,
        "event_inside_load": began + took <= outcome.started_at + seconds,
        "verdict_p99_seconds": site.verdict_p99_seconds(seconds),
    }
    return figures, outcome, began


def deleted(site: Site, wrong: list[str]) -> Figures:
    """A verifier pod is gone without any grace; tokens may be unverified until its partitions have moved."""
    site.release.upgrade(verifier={"replicas": 2})
    victim = site.release.settled("verifier", 2)[0]
    figures, _, at = _under_load(
        site, "deleted", lambda: site.kube.delete("pod", victim, NAMESPACE, now=True, wait=False), wrong
    )
    moved = at + SESSION_TIMEOUT_SECONDS + AFTER_TIMEOUT_SECONDS + SCRAPE_SECONDS
    query = 'sum(sluice_tokens_total{decision="unverified"})'
    before, after = site.prometheus.value(query, moved), site.prometheus.value(query)
    late = (after or 0.0) - (before or 0.0)
    if before is None or after is None or late:
        wrong.append(f"{late:.0f} tokens were unverified later than {moved - at:.0f} s after the pod was gone")
    site.release.settled("verifier", 2)
    return {**figures, "unverified_tokens_after_the_partitions_moved": late}


def rolled(component: str) -> Callable[[Site, list[str]], Figures]:
    """A rolling update of one Deployment."""

    def check(site: Site, wrong: list[str]) -> Figures:
        victim = site.release.pod(component)
        name = f"deployment/{RELEASE}-{component}"

        def restart() -> None:
            site.kube.call("rollout", "restart", name, "-n", NAMESPACE)
            site.kube.call("rollout", "status", name, "-n", NAMESPACE, "--timeout=600s", seconds=620)

        with tempfile.TemporaryDirectory() as folder:
            log = Followed(site.kube, victim, NAMESPACE, Path(folder) / "log")
            listed = Sampled(lambda: _in_service(site, victim)) if component == "edge-worker" else None
            figures, outcome, _ = _under_load(site, f"rolled-{component}", restart, wrong)
            lines = log.lines(60)
            seen = listed.stop() if listed is not None else []
        if outcome.unverified_share > UNVERIFIED_SHARE:
            wrong.append(f"{outcome.unverified_share:.1%} of the tokens are unverified")
        return figures | _stopped_in_order(component, lines, seen, wrong)

    return check


def _in_service(site: Site, pod: str) -> bool:
    """Whether the Service sends new connections to the pod."""
    slices = site.kube.all("endpointslices", NAMESPACE, f"kubernetes.io/service-name={RELEASE}-edge-worker")
    return any(
        endpoint["conditions"].get("ready", False)
        for part in slices
        for endpoint in part.get("endpoints") or []
        if endpoint.get("targetRef", {}).get("name") == pod
    )


def _stopped_in_order(component: str, lines: list[dict[str, Any]], seen: list[tuple[float, bool]], wrong: list[str]) -> Figures:
    """Readiness goes before the drain begins; for an edge worker also in the Service."""
    if component == "policy":
        if not any(line["event"] == "stopped" for line in lines):
            wrong.append("the policy did not stop in order")
        return {}
    phases = [line for line in lines if line["event"] == "stopping"]
    names = [str(line["phase"]) for line in phases]
    if not names or names[0] != "readiness off" or len(names) < 2:
        wrong.append(f"the phases of the stop were {names}")
        return {"phases": names}
    figures: Figures = {"phases": [[line["phase"], line["seconds"]] for line in phases]}
    if component == "edge-worker":
        off = when(phases[0])
        out = next((at for at, listed in seen if not listed), None)
        if out is None or out > off:
            wrong.append("the edge worker began to drain while the Service still sent it connections")
        else:
            figures["seconds_out_of_service_before_drain"] = off - out
    return figures


CHANGES: dict[str, Any] = {
    "edgeWorker": {"config": {"audit_rate": 0.05}},
    "verifier": {"config": {"max_batch_sessions": 6}},
    "policy": {"config": {"damage_budget": 0.06}},
}


def upgraded(site: Site, wrong: list[str]) -> Figures:
    figures, outcome, _ = _under_load(site, "upgraded", lambda: site.release.upgrade(**CHANGES), wrong)
    return _judged(site, figures, outcome, "6", wrong)


def rolled_back(site: Site, wrong: list[str]) -> Figures:
    figures, outcome, _ = _under_load(site, "rolled-back", site.release.rollback, wrong)
    return _judged(site, figures, outcome, "", wrong)


def _judged(site: Site, figures: Figures, outcome: Outcome, batch: str, wrong: list[str]) -> Figures:
    """``batch``: what the verifiers' setting is now; empty: not set."""
    if outcome.unverified_share > UNVERIFIED_SHARE:
        wrong.append(f"{outcome.unverified_share:.1%} of the tokens are unverified")
    spec = site.kube.get("deployment", f"{RELEASE}-verifier", NAMESPACE)["spec"]["template"]["spec"]["containers"][0]
    found = next((e["value"] for e in spec["env"] if e["name"] == "SLUICE_VERIFIER_MAX_BATCH_SESSIONS"), "")
    if found != batch:
        wrong.append(f"SLUICE_VERIFIER_MAX_BATCH_SESSIONS is {found!r}, not {batch!r}")
    return figures
