"""How many pods there may be: never more verifiers than partitions, and always one that may be taken away."""

from __future__ import annotations

from collections.abc import Iterator

from tests.infra.semantics.release import Document, Release, Rule

SLOW_SECONDS = 300  # of a scale-in, at least: each change of the group stops all verifiers for a moment


def verifiers_within_partitions(release: Release) -> Iterator[str]:
    partitions = _partitions(release)
    if partitions is None:
        return
    for pods in release.component("verifier"):
        most = pods.replicas
        for scaler in _scalers(release):
            most = scaler["spec"].get("maxReplicaCount", scaler["spec"].get("maxReplicas"))
        if most is None:
            yield f"{pods.name}: nothing says how many there are"
        elif most > partitions:
            yield f"{pods.name}: up to {most} pods for {partitions} partitions"


def budgets_let_one_go(release: Release) -> Iterator[str]:
    """At the smallest size at least one pod may be evicted: else no node could be emptied. A DaemonSet has no budget."""
    for budget in release.of("PodDisruptionBudget"):
        name, spec = budget["metadata"]["name"], budget["spec"]
        for pods in release.selected(spec["selector"]["matchLabels"]):
            if pods.kind == "DaemonSet":
                yield f"PodDisruptionBudget/{name}: the eviction API cannot count the pods of a DaemonSet"
            fewest = _fewest(release, pods.name, pods.replicas)
            if spec.get("minAvailable", 0) >= max(1, fewest) or spec.get("maxUnavailable", 1) < 1:
                yield f"PodDisruptionBudget/{name}: no pod of {fewest} may be evicted"


def a_scaler_alone_decides(release: Release) -> Iterator[str]:
    """A number in the Deployment would set the pods back at each upgrade."""
    for scaler in _scalers(release):
        target = scaler["spec"]["scaleTargetRef"]["name"]
        for document in release.of("Deployment"):
            if document["metadata"]["name"] == target and "replicas" in document["spec"]:
                yield f"Deployment/{target} has a number of replicas and a scaler"


def scale_in_is_slow(release: Release) -> Iterator[str]:
    for scaler in _scalers(release):
        spec = scaler["spec"]
        if scaler["kind"] == "ScaledObject":
            spec = spec["advanced"]["horizontalPodAutoscalerConfig"]
        down = spec["behavior"]["scaleDown"]
        if down["stabilizationWindowSeconds"] < SLOW_SECONDS:
            yield f"{scaler['kind']}: pods go after {down['stabilizationWindowSeconds']} s"
        if any(policy["value"] > 1 for policy in down["policies"]):
            yield f"{scaler['kind']}: more than one pod goes at a time"


def a_missing_figure_is_no_zero(release: Release) -> Iterator[str]:
    """Unless there may be no pod, in which case nobody reports and nothing is missing."""
    for scaler in release.of("ScaledObject"):
        spec = scaler["spec"]
        fallback = spec.get("fallback", {})
        if not 1 <= fallback.get("replicas", 0) <= spec["maxReplicaCount"]:
            yield "ScaledObject: a fallback of no use"
        expected = "true" if spec["minReplicaCount"] == 0 else "false"
        for trigger in spec["triggers"]:
            if trigger.get("metricType") != "AverageValue":
                yield f"ScaledObject: trigger {trigger['name']} cannot fall back unless it is an AverageValue"
            if trigger["type"] == "prometheus" and trigger["metadata"].get("ignoreNullValues") != expected:
                yield f"ScaledObject: trigger {trigger['name']} takes an empty answer for zero load, or never reaches zero"


def _partitions(release: Release) -> int | None:
    for pods in release.component("topics"):
        return int(pods.environment()["SLUICE_TOPICS_PARTITIONS"])
    return None


def _scalers(release: Release) -> list[Document]:
    return [*release.of("ScaledObject"), *release.of("HorizontalPodAutoscaler")]


def _fewest(release: Release, name: str, replicas: int | None) -> int:
    for scaler in _scalers(release):
        if scaler["spec"]["scaleTargetRef"]["name"] == name:
            return int(scaler["spec"].get("minReplicaCount", scaler["spec"].get("minReplicas", 1)))
    return 1 if replicas is None else replicas


RULES: tuple[Rule, ...] = (
    verifiers_within_partitions,
    budgets_let_one_go,
    a_scaler_alone_decides,
    scale_in_is_slow,
    a_missing_figure_is_no_zero,
)
