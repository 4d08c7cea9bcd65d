"""Names and selectors: each object has a name of its own, and what selects pods finds the right ones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from tests.infra.semantics.release import Release, Rule

CLUSTER_WIDE = ("PriorityClass",)
_LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


def names(release: Release) -> Iterator[str]:
    """A name that is taken twice, is too long, or is in no namespace."""
    counted = Counter((d["kind"], d["metadata"]["name"]) for d in release.documents)
    yield from (f"{kind}/{name} is there {n} times" for (kind, name), n in counted.items() if n > 1)
    for document in release.documents:
        kind, meta = document["kind"], document["metadata"]
        form = _DNS_LABEL if kind in ("Service", "Deployment", "DaemonSet", "Job", "Pod") else _NAME
        if not form.fullmatch(meta["name"]):
            yield f"{kind}/{meta['name']}: no valid name"
        expected = None if kind in CLUSTER_WIDE else release.namespace
        if meta.get("namespace") != expected:
            yield f"{kind}/{meta['name']}: namespace {meta.get('namespace')}, not {expected}"
        for key, value in meta.get("labels", {}).items():
            if not isinstance(value, str) or not _LABEL.fullmatch(value):
                yield f"{kind}/{meta['name']}: label {key} has no valid value: {value!r}"


def workloads_select_their_own_pods(release: Release) -> Iterator[str]:
    for kind in ("Deployment", "DaemonSet"):
        for document in release.of(kind):
            name = document["metadata"]["name"]
            found = [(p.kind, p.name) for p in release.selected(document["spec"]["selector"]["matchLabels"])]
            if found != [(kind, name)]:
                yield f"{kind}/{name} selects {found}"


def others_select_pods_of_one_kind(release: Release) -> Iterator[str]:
    """Services, budgets and monitors: each finds the pods of exactly one workload."""
    for kind in ("Service", "PodDisruptionBudget", "PodMonitor"):
        for document in release.of(kind):
            selector = document["spec"]["selector"]
            labels = selector if kind == "Service" else selector["matchLabels"]
            if len(found := release.selected(labels)) != 1:
                yield f"{kind}/{document['metadata']['name']} selects {[p.name for p in found]}"


def ports_of_pods(release: Release) -> Iterator[str]:
    """Names that are too long or taken twice; probes of ports that are not there."""
    for pods in release.pods:
        listed = [p for c in pods.containers for p in c.get("ports", [])]
        for key in ("name", "containerPort"):
            if len({p[key] for p in listed}) != len(listed):
                yield f"{pods.name}: two ports with one {key}"
        yield from (f"{pods.name}: port name {p['name']} is too long" for p in listed if len(p["name"]) > 15)
        for container in pods.containers:
            own = {p["name"] for p in container.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                port = container.get(probe, {}).get("httpGet", {}).get("port")
                if port is not None and port not in own:
                    yield f"{pods.name}: {probe} asks port {port}"


def ports_that_others_ask_for(release: Release) -> Iterator[str]:
    asked = [(d, d["spec"]["selector"], [p["targetPort"] for p in d["spec"]["ports"]]) for d in release.of("Service")]
    for monitor in release.of("PodMonitor"):
        spec = monitor["spec"]
        asked.append((monitor, spec["selector"]["matchLabels"], [e["port"] for e in spec["podMetricsEndpoints"]]))
    for document, selector, wanted in asked:
        for pods in release.selected(selector):
            for port in wanted:
                if port not in pods.ports():
                    yield f"{document['kind']}/{document['metadata']['name']} asks port {port}, which {pods.name} lacks"


RULES: tuple[Rule, ...] = (
    names,
    workloads_select_their_own_pods,
    others_select_pods_of_one_kind,
    ports_of_pods,
    ports_that_others_ask_for,
)
