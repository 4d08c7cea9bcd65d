"""Start and end of a pod: probes that mean what they are for, and time to drain as long as the code takes."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic_settings import BaseSettings

from services.edge_worker.app import FLUSH_SECONDS
from services.edge_worker.settings import EdgeSettings
from services.verifier.app import GOODBYE_SECONDS
from services.verifier.settings import VerifierSettings
from tests.infra.semantics.release import Pods, Release, Rule

SERVICES = ("edge-worker", "verifier", "policy")
CLOSE_SECONDS = 5.0  # clients of Kafka and Redis, the tracer, and the process itself
ENDPOINT_SECONDS = 3  # until proxies and clients have taken a pod off their lists
_DRAINS: dict[str, tuple[str, type[BaseSettings], float]] = {
    "edge-worker": ("SLUICE_EDGE_DRAIN_SECONDS", EdgeSettings, FLUSH_SECONDS),
    "verifier": ("SLUICE_VERIFIER_DRAIN_SECONDS", VerifierSettings, GOODBYE_SECONDS),
}
_PATHS = {"startupProbe": "/startz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}


def budget(pods: Pods) -> float:
    """Seconds that the code may take from SIGTERM to its end."""
    if pods.component not in _DRAINS:
        return CLOSE_SECONDS
    variable, settings, beyond = _DRAINS[pods.component]
    drain = float(pods.environment().get(variable) or settings.model_fields["drain_seconds"].default)
    return drain + beyond + CLOSE_SECONDS


def grace_is_longer_than_the_drain(release: Release) -> Iterator[str]:
    for pods in _services(release):
        grace = pods.spec.get("terminationGracePeriodSeconds", 30)
        needed = _pause(pods) + budget(pods)
        if grace < needed:
            yield f"{pods.name}: {grace} s of grace, {needed} s needed"


def clients_learn_first(release: Release) -> Iterator[str]:
    """Requests come to an edge worker until its endpoint is gone everywhere; a verifier is asked through Kafka."""
    for pods in release.component("edge-worker"):
        if _pause(pods) < ENDPOINT_SECONDS:
            yield f"{pods.name}: drains before clients know"


def probes_mean_what_they_are_for(release: Release) -> Iterator[str]:
    for pods in _services(release):
        container = pods.spec["containers"][0]
        for probe, path in _PATHS.items():
            found = container.get(probe, {}).get("httpGet", {}).get("path")
            if found != path:
                yield f"{pods.name}: {probe} asks {found}"
        liveness = container.get("livenessProbe", {})
        if liveness.get("httpGet", {}).get("port") != "metrics":
            yield f"{pods.name}: liveness must be asked where a stuck service still answers"
        if liveness.get("periodSeconds", 10) * liveness.get("failureThreshold", 3) < 20:
            yield f"{pods.name}: killed within 20 s"


def _pause(pods: Pods) -> float:
    hook = pods.spec["containers"][0].get("lifecycle", {}).get("preStop", {})
    return float(hook.get("sleep", {}).get("seconds", 0))


def _services(release: Release) -> list[Pods]:
    return [pods for pods in release.pods if pods.component in SERVICES]


RULES: tuple[Rule, ...] = (grace_is_longer_than_the_drain, clients_learn_first, probes_mean_what_they_are_for)
