"""Who may connect to whom: each connection that must not be is tried, and each that must be."""

from __future__ import annotations

from tests.kubernetes.load import NAMESPACE as CLIENTS
from tests.kubernetes.load import Client, reach_from
from tests.kubernetes.release import API_PORT, COMPONENTS, METRICS_PORT, NAMESPACE, RELEASE
from tests.kubernetes.site import Figures, Site

STRANGERS = "sluice-strangers"


def forbidden(site: Site, wrong: list[str]) -> Figures:
    site.kube.namespace(STRANGERS)
    stranger = Client(site.kube, "stranger", STRANGERS).start()
    neighbour = Client(site.kube, "neighbour", NAMESPACE).start()  # same namespace, but not of the release
    guest = Client(site.kube, "guest", NAMESPACE, {"app": "guest", f"{RELEASE}-client": "true"}).start()
    address = {c: site.kube.get("pod", site.release.pod(c), NAMESPACE)["status"]["podIP"] for c in COMPONENTS}
    service = f"{RELEASE}-edge-worker.{NAMESPACE}.svc.cluster.local:80"
    api = f"{address['edge-worker']}:{API_PORT}"
    metrics = {component: f"{address[component]}:{METRICS_PORT}" for component in COMPONENTS}
    kubernetes = "10.96.0.1:443" if site.outside.host == "10.99.0.1" else "kubernetes.default.svc.cluster.local:443"
    kafka = site.outside.kafka.bootstrap if site.outside.kafka is not None else ""
    redis = f"{site.outside.host}:{site.outside.valkey.port}"
    elsewhere = f"{site.outside.host}:{site.outside.forbidden.port}"
    prometheus = "prometheus.monitoring.svc.cluster.local:9090"
    may: dict[str, list[str]] = {
        "client": [service, api],
        "guest": [service, api],
        "stranger": [elsewhere, kafka, redis],  # these listen: what cannot reach them is kept from it
        "edge-worker": [kafka, redis],
        "verifier": [kafka, redis],
        "policy": [redis, prometheus],
    }
    may_not: dict[str, list[str]] = {
        "client": list(metrics.values()),
        "guest": list(metrics.values()),
        "stranger": [service, api, *metrics.values()],
        "neighbour": [service, api, *metrics.values()],
        "edge-worker": [metrics["verifier"], metrics["policy"], prometheus, elsewhere, kubernetes],
        "verifier": [api, service, metrics["edge-worker"], metrics["policy"], prometheus, elsewhere, kubernetes],
        "policy": [api, service, metrics["edge-worker"], metrics["verifier"], kafka, elsewhere, kubernetes],
    }
    pods = {"client": site.client, "stranger": stranger, "neighbour": neighbour, "guest": guest}
    tried = {"allowed": 0, "forbidden": 0}
    for who in {**may, **may_not}:
        targets = [*may.get(who, []), *may_not.get(who, [])]
        found = pods[who].reach(targets) if who in pods else reach_from(site.kube, site.release.pod(who), NAMESPACE, targets)
        wrong.extend(f"{who} does not reach {to}: {found[to]}" for to in may.get(who, []) if found[to] != "open")
        wrong.extend(
            f"{who} reaches {to}: {found[to]}" for to in may_not.get(who, []) if found[to] not in ("timeout", "no name")
        )
        tried["allowed"] += len(may.get(who, []))
        tried["forbidden"] += len(may_not.get(who, []))
    for pod, namespace in (("neighbour", NAMESPACE), ("guest", NAMESPACE)):
        site.kube.delete("pod", pod, namespace)
        site.kube.delete("configmap", f"{pod}-files", namespace)
    site.kube.delete("namespace", STRANGERS)
    return {"connections_tried": tried, "clients_namespace": CLIENTS}
