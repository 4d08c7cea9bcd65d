"""Quantities: they can be read, requests are within limits, and what lies in memory fits in it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.infra.semantics.release import Document, Release, Rule

_UNITS = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([A-Za-z]*)")
TORCH = ("edge-worker", "verifier")


def quantity(text: object) -> float:
    """Bytes, cores or pieces. ``ValueError`` where it is no quantity of Kubernetes."""
    found = _QUANTITY.fullmatch(str(text))
    if found is None or found[2] not in _UNITS:
        raise ValueError(f"{text!r} is no quantity")
    return float(found[1]) * _UNITS[found[2]]


def requests_are_within_limits(release: Release) -> Iterator[str]:
    for pods in release.pods:
        for container in pods.containers:
            yield from (f"{pods.name}/{container['name']}: {problem}" for problem in _resources(container.get("resources", {})))


def memory_volumes_fit(release: Release) -> Iterator[str]:
    """What is in a volume in memory counts as the container's memory; other empty volumes have a bound too."""
    for pods in release.pods:
        memory = max(_number(c["resources"]["limits"]["memory"]) for c in pods.spec["containers"])
        for volume in pods.spec.get("volumes", []):
            empty = volume.get("emptyDir")
            if empty is None:
                continue
            if "sizeLimit" not in empty:
                yield f"{pods.name}: volume {volume['name']} has no bound"
            elif empty.get("medium") == "Memory" and _number(empty["sizeLimit"]) > memory / 4:
                yield f"{pods.name}: volume {volume['name']} takes more than a quarter of the memory"


def models_have_whole_cores(release: Release) -> Iterator[str]:
    """A service takes as many threads as it may use cores, rounded down: half a core would be lost, or fought for."""
    for pods in release.pods:
        for container in pods.spec["containers"]:
            if container["name"] in TORCH and _number(container["resources"]["limits"]["cpu"]) % 1:
                yield f"{pods.name}: limit of {container['resources']['limits']['cpu']} cores is not whole"


def _resources(resources: Document) -> Iterator[str]:
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    for name in ("cpu", "memory"):
        if name not in requests or name not in limits:
            yield f"{name} without a request or a limit"
    for name in requests.keys() | limits.keys():
        try:
            low = quantity(requests.get(name, limits.get(name)))
            high = quantity(limits.get(name, requests.get(name)))
        except ValueError as error:
            yield f"{name}: {error}"
            continue
        if low > high:
            yield f"{name}: request {requests[name]} above limit {limits[name]}"
        if name not in ("cpu", "memory") and low != high:
            yield f"{name}: request and limit of a device must be equal"


def _number(text: object) -> float:
    try:
        return quantity(text)
    except ValueError:
        return 0.0  # told by the rule above


RULES: tuple[Rule, ...] = (requests_are_within_limits, memory_volumes_fit, models_have_whole_cores)
