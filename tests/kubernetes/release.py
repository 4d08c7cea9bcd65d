"""The chart, installed by Helm with values that a small machine can carry."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.common.credentials import Credential, masters_text, new_master
from tests.cluster.properties import password_of
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.images import NOW, REGISTRY, ROOT
from tests.kubernetes.kube import Kube, secret
from tests.kubernetes.load import NAMESPACE as CLIENTS
from tests.kubernetes.outside import PARTITIONS, Outside, kafka_values
from tests.kubernetes.shell import Failed, run, wait_until

CHART = ROOT / "infra" / "helm" / "sluice"
NAMESPACE, RELEASE = "sluice-test", "sluice"
URL = f"http://{RELEASE}-edge-worker.{NAMESPACE}.svc.cluster.local"
API_PORT, METRICS_PORT = 8000, 9102
COMPONENTS = ("edge-worker", "verifier", "policy")
INSTALL_SECONDS = 900
# Verdicts may take long where many processes share few cores: what is late is a matter of the machine, not of Kubernetes.
DEADLINE_SECONDS, LINK_SECONDS = 15, 10

Values = dict[str, Any]


def selector(component: str) -> str:
    return f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={component}"


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> Values:
    """``second`` goes first, at every depth."""
    result = dict(first)
    for key, value in second.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def values(cluster: Cluster, outside: Outside) -> Values:
    """The smallest release that has everything: one pod of each service, metrics, rules, default network policies."""
    kafka = outside.kafka
    assert kafka is not None, "Kafka has to be there first"
    host = [{"ipBlock": {"cidr": f"{outside.host}/32"}}]
    network: Values = {"kafka": host, "redis": host, "clients": [_namespace(CLIENTS)]}
    if cluster.dns:
        network["dns"] = list(cluster.dns)
    image = {"tag": NOW}
    small: Values = {
        "global": {"imageRegistry": REGISTRY},
        "kafka": {"bootstrap": kafka.bootstrap, "partitions": PARTITIONS},
        "redis": {"url": outside.valkey.url},
        "edgeWorker": {
            "replicas": 1,
            "image": image,
            "existingSecret": "sluice-edge-worker",
            "config": {
                "threads": 1,
                "sessions": 32,
                "deadline_seconds": DEADLINE_SECONDS,
                "link_seconds": LINK_SECONDS,
                "context_tokens": 512,
            },
            "resources": _resources("200m", "1", "900Mi", "3Gi"),
        },
        "verifier": {
            "replicas": 1,
            "image": image,
            "existingSecret": "sluice-verifier",
            "config": {"threads": 1, "capacity_tokens": 512, "session_timeout_ms": 6000, "slots": 32},
            "resources": _resources("200m", "1", "900Mi", "3Gi"),
        },
        "policy": {
            "replicas": 1,
            "image": image,
            "existingSecret": "sluice-policy",
            "config": {"prometheus_timeout_seconds": LINK_SECONDS},
        },
        "networkPolicy": network,
        "monitoring": {"podMonitors": True, "rules": True, "dashboards": True},
    }
    return merged(small, _secure_values() if kafka.secure else {})


def _secure_values() -> Values:
    return {
        "kafka": {"security": "sasl_ssl", "caSecret": {"name": "kafka-ca"}},
        "edgeWorker": {"kafkaUsername": "edge"},
        "verifier": {"kafkaUsername": "verifier"},
        "topics": {"kafkaUsername": "operator", "existingSecret": "sluice-topics"},
    }


def _resources(cpu: str, cpu_limit: str, memory: str, memory_limit: str) -> Values:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu_limit, "memory": memory_limit}}


def _namespace(name: str) -> Values:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


class Release:
    """``helm``: the program. ``base``: the values that every call begins with."""

    def __init__(self, helm: str, kube: Kube, cluster: Cluster, outside: Outside) -> None:
        self._helm, self._kube, self._outside = helm, kube, outside
        self._cluster = cluster
        self.given: Values = {}
        self._before: Values = {}

    def prepare(self) -> None:
        """A fresh namespace with the Secrets that the chart refers to."""
        kafka = self._outside.kafka
        assert kafka is not None, "Kafka has to be there first"
        masters = {1: new_master()}
        redis = self._outside.valkey.password
        contents: dict[str, dict[str, str]] = {
            "sluice-edge-worker": {
                "sluice_edge_credential": Credential.issue(masters, 1, "cluster").text(),
                "sluice_edge_redis_password": redis,
            },
            "sluice-verifier": {"sluice_verifier_master_keys": masters_text(masters), "sluice_verifier_redis_password": redis},
            "sluice-policy": {"sluice_policy_redis_password": redis},
            **kafka_values(kafka),
        }
        if kafka.secure:
            contents["sluice-edge-worker"]["sluice_edge_kafka_password"] = password_of("edge")
            contents["sluice-verifier"]["sluice_verifier_kafka_password"] = password_of("verifier")
        self._kube.namespace(NAMESPACE)
        self._kube.apply(*(secret(name, NAMESPACE, values) for name, values in contents.items()))

    def install(self, **changes: Any) -> None:
        self.given = merged(values(self._cluster, self._outside), changes)
        self._with_values("install")

    def upgrade(self, **changes: Any) -> None:
        """Further changes to what is installed."""
        self._before, self.given = self.given, merged(self.given, changes)
        self._with_values("upgrade")

    def rollback(self) -> None:
        """To the revision before the last upgrade."""
        self.given = self._before
        self.call("rollback", RELEASE, "--wait", f"--timeout={INSTALL_SECONDS}s")

    def test(self) -> None:
        self.call("test", RELEASE, "--timeout=300s")

    def uninstall(self) -> None:
        self.call("uninstall", RELEASE, "--wait", "--timeout=300s")

    def call(self, *arguments: str) -> str:
        return run(self._helm, *arguments, "-n", NAMESPACE, seconds=INSTALL_SECONDS + 60, environment=self._kube.environment)

    def pods(self, component: str) -> list[str]:
        """Those that are ready."""
        return self._kube.ready(NAMESPACE, selector(component))

    def pod(self, component: str) -> str:
        """One that is ready. ``Failed`` where none is."""
        ready = self.pods(component)
        if not ready:
            raise Failed(f"no pod of {component} is ready")
        return ready[0]

    def settled(self, component: str, pods: int, seconds: float = INSTALL_SECONDS) -> list[str]:
        """Exactly ``pods`` pods, all ready, none on its way."""

        def there() -> list[str] | None:
            every = self._kube.all("pods", NAMESPACE, selector(component))
            ready = self.pods(component)
            return ready if len(every) == len(ready) == pods else None

        return wait_until(f"{pods} pods of {component}", there, seconds)

    def _with_values(self, verb: str) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(self.given, file)
            file.flush()
            self.call(verb, RELEASE, str(CHART), "-f", str(Path(file.name)), "--wait", f"--timeout={INSTALL_SECONDS}s")
