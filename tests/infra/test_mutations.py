"""The rules can fail: each breaks a good rendering in one place and is found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.infra.conftest import Rendered
from tests.infra.semantics import problems
from tests.infra.semantics.release import Document, Release


def variable(document: Document, name: str) -> Document:
    found: Document = next(v for v in document["spec"]["template"]["spec"]["containers"][0]["env"] if v["name"] == name)
    return found


def _at(document: Document, path: str) -> tuple[Any, Any]:
    """Where ``path`` (dots between keys and numbers) leads: the map or list, and the key in it."""
    place: Any = document
    *steps, last = path.split(".")
    for step in steps:
        place = place[int(step)] if isinstance(place, list) else place[step]
    return place, int(last) if isinstance(place, list) else last


def _set(path: str, value: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        place, key = _at(document, path)
        place[key] = value

    return change


def _del(path: str) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        place, key = _at(document, path)
        del place[key]

    return change


SPEC = "spec.template.spec"
FIRST = f"{SPEC}.containers.0"
# kind, last part of the name, what is broken, what is said of it
MUTANTS: list[tuple[str, str, Callable[[Document], None], str]] = [
    ("Deployment", "verifier", _set("spec.selector.matchLabels", {"app.kubernetes.io/name": "sluice"}), "selects ["),
    ("Deployment", "verifier", _set("metadata.name", "hybrid-edge-worker"), "is there 2 times"),
    ("Deployment", "verifier", _set("metadata.namespace", "default"), "namespace default"),
    ("Service", "edge-worker", _set("spec.selector", {"app.kubernetes.io/component": "edge"}), "selects []"),
    ("Service", "edge-worker", _set("spec.ports.0.targetPort", "web"), "asks port web"),
    ("Service", "edge-worker", _set("metadata.labels.team", True), "no valid value"),
    ("PodMonitor", "verifier", _set("spec.podMetricsEndpoints.0.port", "prometheus"), "asks port prometheus"),
    ("Deployment", "policy", _set(f"{FIRST}.ports.0.name", "metrics-and-probes"), "too long"),
    ("Deployment", "policy", _set(f"{FIRST}.readinessProbe.httpGet.port", "http"), "readinessProbe asks port http"),
    ("Deployment", "verifier", _set(f"{SPEC}.serviceAccountName", "default"), "no service account default"),
    ("Deployment", "verifier", _set(f"{SPEC}.priorityClassName", "urgent"), "nobody makes urgent"),
    ("Deployment", "verifier", _set(f"{SPEC}.volumes.1.projected.sources.0.secret.name", "gone"), "nobody makes gone"),
    ("Deployment", "verifier", _del(f"{SPEC}.volumes.0"), "mounts"),
    ("Deployment", "verifier", _set(f"{FIRST}.volumeMounts.0.mountPath", "/dev/shm"), "two mounts at one path"),
    ("Deployment", "verifier", _set(f"{FIRST}.env.1.name", "SLUICE_VERIFIER_METRICS_HOST"), "is set twice"),
    ("Deployment", "verifier", _set(f"{FIRST}.volumeMounts.2.mountPath", "/etc/kafka"), "where nothing is mounted"),
    ("Ingress", "edge-worker", _set("spec.rules.0.http.paths.0.path", "/"), "lets / out"),
    ("Ingress", "edge-worker", _set("spec.rules.0.http.paths.0.backend.service.name", "api"), "api:http, which there is not"),
    ("Ingress", "edge-worker", _set("spec.tls.0.secretName", "gone-tls"), "nobody makes gone-tls"),
    ("ScaledObject", "verifier", _set("spec.scaleTargetRef.name", "verifiers"), "scales verifiers"),
    ("ScaledObject", "verifier", _set("spec.triggers.0.authenticationRef.name", "kafka"), "no authentication kafka"),
    ("TriggerAuthentication", "kafka", _set("spec.secretTargetRef.0.name", "nothing"), "nobody makes nothing"),
    ("Deployment", "policy", _set(f"{FIRST}.resources.requests.memory", "2Gi"), "above limit"),
    ("Deployment", "policy", _set(f"{FIRST}.resources.limits.memory", "512MB"), "no quantity"),
    ("Deployment", "policy", _del(f"{FIRST}.resources.limits.cpu"), "cpu without"),
    ("Deployment", "verifier", _set(f"{FIRST}.resources.limits.cpu", "2500m"), "not whole"),
    (
        "Deployment",
        "verifier",
        _set(f"{FIRST}.resources.requests", {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": 1}),
        "device",
    ),
    ("Deployment", "policy", _set(f"{SPEC}.volumes.0.emptyDir", {}), "no bound"),
    ("Deployment", "policy", _set(f"{SPEC}.volumes.0.emptyDir.medium", "Memory"), "a quarter of the memory"),
    ("ScaledObject", "verifier", _set("spec.maxReplicaCount", 17), "17 pods for 16 partitions"),
    ("PodDisruptionBudget", "policy", _set("spec.minAvailable", 3), "no pod of 3 may be evicted"),
    ("PodDisruptionBudget", "verifier", _set("spec.maxUnavailable", 0), "no pod of 2 may be evicted"),
    ("Deployment", "verifier", _set("spec.replicas", 2), "a number of replicas and a scaler"),
    (
        "ScaledObject",
        "verifier",
        _set("spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.stabilizationWindowSeconds", 60),
        "pods go after 60 s",
    ),
    ("ScaledObject", "verifier", _set("spec.triggers.1.metadata.ignoreNullValues", "true"), "empty answer for zero"),
    ("ScaledObject", "verifier", _set("spec.triggers.1.metricType", "Value"), "cannot fall back"),
    ("ScaledObject", "verifier", _set("spec.fallback.replicas", 0), "fallback of no use"),
    ("Deployment", "edge-worker", _set(f"{SPEC}.terminationGracePeriodSeconds", 90), "90 s of grace"),
    ("Deployment", "verifier", _set(f"{SPEC}.terminationGracePeriodSeconds", 30), "30 s of grace"),
    ("Deployment", "edge-worker", _del(f"{FIRST}.lifecycle"), "drains before clients know"),
    ("Deployment", "verifier", _set(f"{FIRST}.livenessProbe.httpGet.path", "/readyz"), "livenessProbe asks /readyz"),
    ("Deployment", "edge-worker", _set(f"{FIRST}.livenessProbe.httpGet.port", "http"), "still answers"),
    ("Deployment", "verifier", _set(f"{FIRST}.livenessProbe.failureThreshold", 1), "killed within"),
    ("Deployment", "policy", _set(f"{SPEC}.hostNetwork", True), "hostNetwork"),
    ("Deployment", "policy", _set(f"{SPEC}.volumes.0", {"name": "tmp", "hostPath": {"path": "/tmp"}}), "restricted forbids"),
    ("Deployment", "policy", _set(f"{FIRST}.securityContext.runAsUser", 0), "another user"),
    ("Deployment", "policy", _set(f"{FIRST}.securityContext.readOnlyRootFilesystem", False), "write to its root"),
    (
        "Deployment",
        "policy",
        _set(f"{FIRST}.securityContext.capabilities", {"drop": ["ALL"], "add": ["NET_RAW"]}),
        "capabilities",
    ),
    ("Deployment", "policy", _set(f"{FIRST}.securityContext.allowPrivilegeEscalation", True), "gain privileges"),
    ("Deployment", "policy", _del(f"{FIRST}.securityContext.seccompProfile"), "no seccomp profile"),
    ("Deployment", "policy", _del(f"{SPEC}.automountServiceAccountToken"), "a token of its account"),
    ("ServiceAccount", "policy", _set("automountServiceAccountToken", True), "gives out a token"),
    ("Deployment", "policy", _set(f"{SPEC}.serviceAccountName", "hybrid-verifier"), "shares its account"),
    ("Deployment", "policy", _set(f"{FIRST}.env.1", {"name": "X_REDIS_PASSWORD", "value": "p"}), "in the open"),
    ("Deployment", "policy", _set(f"{FIRST}.env.1", {"name": "X", "value": "redis://u:p@redis"}), "a login in an address"),
    ("Deployment", "verifier", lambda d: variable(d, "MALLOC_ARENA_MAX").update(value="8"), "resident memory grows"),
    ("NetworkPolicy", "default-deny", _set("spec.podSelector.matchLabels", {"app": "x"}), "denies by default"),
    ("NetworkPolicy", "policy", _set("spec.egress.1", {"to": [{"podSelector": {}}]}), "a rule for all ports"),
    ("NetworkPolicy", "edge-worker", _set("spec.ingress.1.from", []), "anybody may come in"),
    ("NetworkPolicy", "verifier", _set("spec.ingress.0.ports.0.port", "http"), "has no port http"),
    ("NetworkPolicy", "topics", _set("spec.ingress", [{"from": [{"podSelector": {}}], "ports": [{"port": 1}]}]), "are open"),
]


def mutate(good: Release, kind: str, name: str, change: Callable[[Document], None]) -> Release:
    documents = copy.deepcopy(good.documents)
    change(next(d for d in documents if d["kind"] == kind and d["metadata"]["name"].endswith(name)))
    return replace(good, documents=documents)


@pytest.mark.parametrize(("kind", "name", "change", "said"), MUTANTS, ids=[m[3] for m in MUTANTS])
def test_what_is_broken_is_found(
    rendered: Rendered, kind: str, name: str, change: Callable[[Document], None], said: str
) -> None:
    good = rendered.releases["secure"]
    found = problems(mutate(good, kind, name, change))
    assert any(said in problem for problem in found), found
