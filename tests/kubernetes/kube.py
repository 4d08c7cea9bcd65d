"""The cluster's API, by kubectl."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tests.kubernetes.shell import Failed, run, wait_until

Object = dict[str, Any]
RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
}
SAFE_POD = {"runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
SAFE_CONTAINER = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


class Kube:
    """``environment``: KUBECONFIG, and a PATH with a kubectl that fits."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)

    def call(self, *arguments: str, stdin: str | None = None, seconds: float = 120.0) -> str:
        return run("kubectl", *arguments, stdin=stdin, seconds=seconds, environment=self.environment)

    def get(self, kind: str, name: str, namespace: str = "") -> Object:
        found: Object = json.loads(self.call("get", kind, name, *_in(namespace), "-o", "json"))
        return found

    def all(self, kind: str, namespace: str = "", selector: str = "") -> list[Object]:
        where = _in(namespace) or ["-A"]
        chosen = ["-l", selector] if selector else []
        items: list[Object] = json.loads(self.call("get", kind, *where, *chosen, "-o", "json"))["items"]
        return items

    def apply(self, *objects: Object) -> None:
        self.call("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(_list(objects)))

    def delete(self, kind: str, name: str, namespace: str = "", *, now: bool = False, wait: bool = True) -> None:
        """``now``: without any grace, as when a node dies."""
        options = ["--grace-period=0", "--force"] if now else []
        self.call(
            "delete", kind, name, *_in(namespace), *options, f"--wait={str(wait).lower()}", "--ignore-not-found", seconds=300
        )

    def namespace(self, name: str) -> None:
        """Made anew, with Pod Security `restricted` enforced."""
        self.delete("namespace", name)
        labels = {"app.kubernetes.io/part-of": "sluice-cluster-test", **RESTRICTED}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})

    def logs(self, pod: str, namespace: str) -> str:
        return self.call("logs", pod, "-n", namespace)

    def exec(self, pod: str, namespace: str, *command: str, stdin: str | None = None, seconds: float = 120.0) -> str:
        return self.call("exec", "-i", pod, "-n", namespace, "--", *command, stdin=stdin, seconds=seconds)

    def ready(self, namespace: str, selector: str) -> list[str]:
        """Names of the pods that are ready and not on their way out."""
        return sorted(p["metadata"]["name"] for p in self.all("pods", namespace, selector) if is_ready(p))

    def ask(self, service: str, namespace: str, port: int, path: str) -> str:
        """GET from a Service, through the API server."""
        return self.call("get", "--raw", f"/api/v1/namespaces/{namespace}/services/{service}:{port}/proxy{path}", seconds=30)

    def finished(self, pod: str, namespace: str, seconds: float) -> str:
        """The log of a pod that runs to its end. ``Failed`` where it ends badly or not in time."""

        def phase() -> str | None:
            status = self.get("pod", pod, namespace)["status"]["phase"]
            return str(status) if status in ("Succeeded", "Failed") else None

        ended = wait_until(f"pod {pod} ends", phase, seconds)
        text = self.logs(pod, namespace)
        if ended == "Failed":
            raise Failed(f"pod {pod} failed: {text[-1500:]}")
        return text


def is_ready(pod: Object) -> bool:
    conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def safe_pod(
    name: str,
    namespace: str,
    image: str,
    command: list[str],
    *,
    arguments: list[str] | None = None,
    labels: Mapping[str, str] | None = None,
    files: str = "",
    environment: Mapping[str, str] | None = None,
) -> Object:
    """A pod that Pod Security `restricted` lets in; ``files``: a ConfigMap at /client."""
    volumes: list[Object] = [{"name": "tmp", "emptyDir": {}}]
    mounts = [{"name": "tmp", "mountPath": "/tmp"}]
    if files:
        volumes.append({"name": "files", "configMap": {"name": files}})
        mounts.append({"name": "files", "mountPath": "/client"})
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        **({"command": command} if command else {}),
        **({"args": arguments} if arguments else {}),
        "env": [{"name": key, "value": value} for key, value in (environment or {}).items()],
        "securityContext": SAFE_CONTAINER,
        "volumeMounts": mounts,
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": SAFE_POD,
        "containers": [container],
        "volumes": volumes,
    }
    metadata = {"name": name, "namespace": namespace, "labels": dict(labels or {"app": name})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def secret(name: str, namespace: str, values: Mapping[str, str]) -> Object:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": dict(values)}


def _in(namespace: str) -> list[str]:
    return ["-n", namespace] if namespace else []


def _list(objects: Iterable[Object]) -> Object:
    return {"apiVersion": "v1", "kind": "List", "items": list(objects)}
