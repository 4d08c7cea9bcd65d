"""Pod Security `restricted`, accounts without token, secrets by reference, and the allocator's settings where torch runs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.infra.semantics.release import Document, Pods, Release, Rule

USER = 10001
_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
_SECRET = re.compile(r"PASSWORD|CREDENTIAL|MASTER_KEYS|API_KEYS?$|TOKEN$")
ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "65536"}


def restricted(release: Release) -> Iterator[str]:
    """The standard's rules for pods, and beyond it a read-only root and our own user."""
    for pods in release.pods:
        spec = pods.spec
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if spec.get(key):
                yield f"{pods.name}: {key}"
        for volume in spec.get("volumes", []):
            if not _VOLUMES & volume.keys():
                yield f"{pods.name}: volume {volume['name']} is of a kind that restricted forbids"
        for container in pods.containers:
            yield from (f"{pods.name}/{container['name']}: {p}" for p in _container(container.get("securityContext", {})))
            if any("hostPort" in port for port in container.get("ports", [])):
                yield f"{pods.name}: a port of the host"


def _container(context: Document) -> Iterator[str]:
    if context.get("allowPrivilegeEscalation") is not False:
        yield "may gain privileges"
    if context.get("privileged"):
        yield "is privileged"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield "has capabilities"
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") != USER:
        yield "runs as another user"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "may write to its root"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "has no seccomp profile"


def accounts_have_no_token(release: Release) -> Iterator[str]:
    for pods in release.pods:
        if pods.spec.get("automountServiceAccountToken") is not False:
            yield f"{pods.name}: has a token of its account"
        same = [other.name for other in release.pods if other.spec.get("serviceAccountName") == _account(pods)]
        if len(same) > 1:
            yield f"{pods.name}: shares its account with {same}"
    for account in release.of("ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount/{account['metadata']['name']}: gives out a token"
    for kind in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"):
        yield from (f"{kind}/{name}: no pod of ours needs the API" for name in release.names(kind))


def secrets_come_by_reference(release: Release) -> Iterator[str]:
    yield from (f"Secret/{name}: a secret in the chart" for name in release.names("Secret"))
    for pods in release.pods:
        for name, value in pods.environment().items():
            if _SECRET.search(name) and not value.startswith("/"):
                yield f"{pods.name}: {name} has its value in the open"
            if re.search(r"://[^/]*@", value):
                yield f"{pods.name}: {name} has a login in an address"


def memory_goes_back(release: Release) -> Iterator[str]:
    for pods in release.pods:
        if pods.component in ("edge-worker", "verifier") and not ALLOCATOR.items() <= pods.environment().items():
            yield f"{pods.name}: without the allocator's settings resident memory grows"


def _account(pods: Pods) -> str:
    return str(pods.spec.get("serviceAccountName"))


RULES: tuple[Rule, ...] = (restricted, accounts_have_no_token, secrets_come_by_reference, memory_goes_back)
