"""Network policies: every pod is denied what is not listed, and what is listed names its ports."""

from __future__ import annotations

from collections.abc import Iterator

from tests.infra.semantics.release import Document, Pods, Release, Rule

BOTH = {"Ingress", "Egress"}


def every_pod_is_covered(release: Release) -> Iterator[str]:
    """In both directions, by the policy that allows nothing and by one of its own."""
    for pods in release.pods:
        found = _policies(release, pods)
        for direction in BOTH:
            if not any(direction in policy["spec"]["policyTypes"] for policy in found):
                yield f"{pods.name}: no policy of {direction}"
        if not any(_denies(policy) for policy in found):
            yield f"{pods.name}: no policy that denies by default"


def nothing_is_open(release: Release) -> Iterator[str]:
    """A rule without ports allows all of them; one that lets anybody in is no rule."""
    for policy in release.of("NetworkPolicy"):
        name, spec = policy["metadata"]["name"], policy["spec"]
        for rule in (*spec.get("ingress", []), *spec.get("egress", [])):
            if not rule.get("ports"):
                yield f"NetworkPolicy/{name}: a rule for all ports"
        for rule in spec.get("ingress", []):
            if not rule.get("from") or {} in rule["from"]:
                yield f"NetworkPolicy/{name}: anybody may come in"
            for port in rule.get("ports", []):
                for pods in release.selected(spec["podSelector"].get("matchLabels", {})):
                    if port.get("port") not in pods.ports():
                        yield f"NetworkPolicy/{name}: {pods.name} has no port {port.get('port')}"


def only_edge_workers_take_requests(release: Release) -> Iterator[str]:
    """All others are only scraped."""
    for pods in release.pods:
        open_ports = {
            port["port"]
            for policy in _policies(release, pods)
            for rule in policy["spec"].get("ingress", [])
            for port in rule.get("ports", [])
        }
        allowed = {"edge-worker": {"http", "metrics"}, "verifier": {"metrics"}, "policy": {"metrics"}}.get(
            pods.component, set()
        )
        if open_ports != allowed:
            yield f"{pods.name}: ports {sorted(map(str, open_ports))} are open, not {sorted(allowed)}"


def _policies(release: Release, pods: Pods) -> list[Document]:
    return [p for p in release.of("NetworkPolicy") if _selects(p, pods)]


def _selects(policy: Document, pods: Pods) -> bool:
    labels = policy["spec"]["podSelector"].get("matchLabels", {})
    return bool(labels.items() <= pods.labels.items())


def _denies(policy: Document) -> bool:
    spec = policy["spec"]
    return set(spec["policyTypes"]) == BOTH and not spec.get("ingress") and not spec.get("egress")


RULES: tuple[Rule, ...] = (every_pod_is_covered, nothing_is_open, only_edge_workers_take_requests)
