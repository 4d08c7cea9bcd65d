"""1 -> 3 -> 1 verifiers by KEDA and the HPA, on the lag of Kafka under a step of the load."""

from __future__ import annotations

from typing import Any

from tests.kubernetes.outside import AUTOSCALER
from tests.kubernetes.release import NAMESPACE, RELEASE
from tests.kubernetes.shell import wait_until
from tests.kubernetes.site import RATE, Figures, Site
from tests.kubernetes.watch import Sampled

MOST = 3
UNVERIFIED_SHARE = 0.01
STEP_RATE, STEP_FROM, STEP_TO, LOAD_SECONDS = 2.0, 20.0, 140.0, 300.0
# Small thresholds and short windows: the load is that of a small machine, and nobody waits five minutes for a test.
AUTOSCALING: dict[str, Any] = {
    "kind": "keda",
    "minReplicas": 1,
    "maxReplicas": MOST,
    "scaleIn": {"stabilizationSeconds": 30, "periodSeconds": 15},
    "scaleOut": {"pods": 2, "periodSeconds": 15},
    "keda": {"lagThreshold": 3, "prometheus": False, "fallbackReplicas": 1},
}


def lag_is_read(site: Site, wrong: list[str]) -> Figures:
    """KEDA logs in to the secured Kafka with the least rights and reads the lag."""
    keda = {**AUTOSCALING["keda"], "kafkaUsername": AUTOSCALER, "kafkaPasswordSecret": {"name": "kafka-autoscaler"}}
    site.release.upgrade(verifier={"autoscaling": {**AUTOSCALING, "keda": keda}})

    def health() -> list[dict[str, Any]]:
        found = site.kube.get("scaledobject", f"{RELEASE}-verifier", NAMESPACE)["status"]
        conditions = {c["type"]: c["status"] for c in found["conditions"]}
        good = conditions.get("Ready") == "True" and conditions.get("Fallback") == "False"
        return [{"name": n, **h} for n, h in (found.get("health") or {}).items()] if good else []

    found = wait_until("KEDA reads the lag", health, 120)
    wrong.extend(f"{part['name']} is {part['status']}" for part in found if part["status"] != "Happy")
    return {"triggers": found}


def up_and_down(site: Site, wrong: list[str]) -> Figures:
    site.release.upgrade(verifier={"autoscaling": AUTOSCALING})
    wait_until("KEDA has made its HPA", lambda: site.kube.get("hpa", f"{RELEASE}-verifier", NAMESPACE), 90)
    ready = Sampled(lambda: len(site.release.pods("verifier")), 1.0)
    load = site.load("step", LOAD_SECONDS, [(0, RATE / 2), (STEP_FROM, STEP_RATE), (STEP_TO, RATE / 2)])
    outcome = load.outcome()
    site.release.settled("verifier", 1, 180)
    seen = ready.stop()
    begin = outcome.started_at
    counts = [count for _, count in seen]
    if max(counts) != MOST:
        wrong.append(f"at most {max(counts)} verifiers were ready, not {MOST}")
    if counts[0] != 1 or counts[-1] != 1:
        wrong.append(f"verifiers went {counts}")
    if outcome.not_complete:
        wrong.append(f"{outcome.not_complete} of {outcome.answers['offered']} answers failed: {outcome.errors}")
    if outcome.unverified_share > UNVERIFIED_SHARE:
        wrong.append(f"{outcome.unverified_share:.1%} of the tokens are unverified")
    at_most = next((at - begin - STEP_FROM for at, count in seen if count == MOST), None)
    rebalances = site.prometheus.value("max(sum by (pod) (increase(sluice_rebalances_total[10m])))")
    site.release.upgrade(verifier={"autoscaling": {"kind": "none"}})
    return {
        **outcome.figures(),
        "verifiers_ready_over_time": [[round(at - begin, 1), count] for at, count in seen],
        "seconds_from_step_to_three_ready": at_most,
        "step_requests_per_second": STEP_RATE,
        "rebalances_of_one_verifier": rebalances,
        "verdict_p99_seconds": site.verdict_p99_seconds(LOAD_SECONDS),
    }
