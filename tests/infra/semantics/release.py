"""A rendered release: its documents, and the pods among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Document = dict[str, Any]
Rule = Callable[["Release"], Iterator[str]]
_TEMPLATED = ("Deployment", "DaemonSet", "Job")


@dataclass(frozen=True)
class Pods:
    """Pods of one workload. ``replicas``: None where nothing in the document says how many."""

    kind: str
    name: str
    labels: Mapping[str, str]
    spec: Document
    replicas: int | None

    @property
    def containers(self) -> list[Document]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def component(self) -> str:
        return self.labels.get("app.kubernetes.io/component", "")

    def ports(self) -> dict[str, int]:
        return {p["name"]: p["containerPort"] for c in self.containers for p in c.get("ports", [])}

    def environment(self) -> dict[str, str]:
        """Variables of the first service container that have a value in the document."""
        return {e["name"]: e["value"] for e in self.spec["containers"][0].get("env", []) if "value" in e}


@dataclass(frozen=True)
class Release:
    """``namespace`` is where it is installed; ``outside``: names of Secrets, ConfigMaps, claims and classes of others."""

    documents: list[Document]
    namespace: str
    outside: frozenset[str] = frozenset()

    def of(self, kind: str) -> list[Document]:
        return [d for d in self.documents if d["kind"] == kind]

    def names(self, kind: str) -> set[str]:
        return {d["metadata"]["name"] for d in self.of(kind)}

    @cached_property
    def pods(self) -> list[Pods]:
        found = []
        for document in self.documents:
            kind, name = document["kind"], document["metadata"]["name"]
            if kind in _TEMPLATED:
                template = document["spec"]["template"]
                replicas = document["spec"].get("replicas")
                found.append(Pods(kind, name, template["metadata"]["labels"], template["spec"], replicas))
            elif kind == "Pod":
                found.append(Pods(kind, name, document["metadata"].get("labels", {}), document["spec"], 1))
        return found

    def selected(self, selector: Mapping[str, str]) -> list[Pods]:
        return [pods for pods in self.pods if selector.items() <= pods.labels.items()]

    def component(self, name: str) -> list[Pods]:
        return [pods for pods in self.pods if pods.component == name]
