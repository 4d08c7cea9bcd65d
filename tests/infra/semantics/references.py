"""References to objects: of this release, or named in the values as made by others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.infra.semantics.release import Document, Release, Rule

_KINDS = ("Secret", "ConfigMap", "PersistentVolumeClaim", "PriorityClass", "RuntimeClass")


def pods_refer_to_what_exists(release: Release) -> Iterator[str]:
    known = release.outside | {name for kind in _KINDS for name in release.names(kind)}
    for pods in release.pods:
        if pods.spec.get("serviceAccountName") not in release.names("ServiceAccount"):
            yield f"{pods.name}: there is no service account {pods.spec.get('serviceAccountName')}"
        for name in _named(pods.spec):
            if name not in known:
                yield f"{pods.name}: nobody makes {name}"


def mounts(release: Release) -> Iterator[str]:
    """Volumes that are mounted and not there, or there and not mounted; two mounts at one place."""
    for pods in release.pods:
        volumes = {volume["name"] for volume in pods.spec.get("volumes", [])}
        used = {m["name"] for c in pods.containers for m in c.get("volumeMounts", [])}
        if volumes != used:
            yield f"{pods.name}: volumes {sorted(volumes)}, mounts {sorted(used)}"
        for container in pods.containers:
            places = [m["mountPath"] for m in container.get("volumeMounts", [])]
            if len(set(places)) != len(places):
                yield f"{pods.name}: two mounts at one path of {container['name']}"
        names = [e["name"] for c in pods.spec["containers"] for e in c.get("env", [])]
        yield from (f"{pods.name}: {name} is set twice" for name in set(names) if names.count(name) > 1)


def files_of_settings_are_mounted(release: Release) -> Iterator[str]:
    """A setting that names a path: the path lies in a mount."""
    for pods in release.pods:
        places = tuple(m["mountPath"] for m in pods.spec["containers"][0].get("volumeMounts", []))
        for name, value in pods.environment().items():
            if value.startswith("/") and not value.startswith(places):
                yield f"{pods.name}: {name} is {value}, where nothing is mounted"


def ingresses(release: Release) -> Iterator[str]:
    """Only the API leaves the cluster, through a Service that there is and a port that it has."""
    services = {d["metadata"]["name"]: {port["name"] for port in d["spec"]["ports"]} for d in release.of("Service")}
    for document in release.of("Ingress"):
        name, spec = document["metadata"]["name"], document["spec"]
        for path in (path for rule in spec["rules"] for path in rule["http"]["paths"]):
            backend = path["backend"]["service"]
            if backend["port"]["name"] not in services.get(backend["name"], ()):
                yield f"Ingress/{name} goes to {backend['name']}:{backend['port']['name']}, which there is not"
            if path["path"] != "/v1":
                yield f"Ingress/{name} lets {path['path']} out"
        for entry in spec.get("tls", []):
            if entry["secretName"] not in release.outside:
                yield f"Ingress/{name}: nobody makes {entry['secretName']}"


def scalers(release: Release) -> Iterator[str]:
    for document in (*release.of("ScaledObject"), *release.of("HorizontalPodAutoscaler")):
        name = document["metadata"]["name"]
        target = document["spec"]["scaleTargetRef"]["name"]
        if target not in release.names("Deployment"):
            yield f"{document['kind']}/{name} scales {target}, which there is not"
        for trigger in document["spec"].get("triggers", []):
            wanted = trigger.get("authenticationRef", {}).get("name")
            if wanted is not None and wanted not in release.names("TriggerAuthentication"):
                yield f"{document['kind']}/{name}: there is no authentication {wanted}"
    for document in release.of("TriggerAuthentication"):
        for kind, parts in (("Secret", "secretTargetRef"), ("ConfigMap", "configMapTargetRef")):
            for part in document["spec"].get(parts, []):
                if part["name"] not in release.outside | release.names(kind):
                    yield f"TriggerAuthentication/{document['metadata']['name']}: nobody makes {part['name']}"


def _named(spec: Document) -> Iterator[str]:
    yield from filter(None, (spec.get("priorityClassName"), spec.get("runtimeClassName")))
    for entry in spec.get("imagePullSecrets", []):
        yield entry["name"]
    for volume in spec.get("volumes", []):
        yield from _of_volume(volume)
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        for variable in container.get("env", []):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            if reference:
                yield reference["name"]


def _of_volume(volume: dict[str, Any]) -> Iterator[str]:
    for source in (volume, *volume.get("projected", {}).get("sources", [])):
        for kind, key in (("secret", "secretName"), ("secret", "name"), ("configMap", "name")):
            if name := source.get(kind, {}).get(key):
                yield name
    if claim := volume.get("persistentVolumeClaim"):
        yield claim["claimName"]


RULES: tuple[Rule, ...] = (pods_refer_to_what_exists, mounts, files_of_settings_are_mounted, ingresses, scalers)
