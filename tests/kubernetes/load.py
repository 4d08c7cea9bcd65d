"""Load from inside the cluster: `sluice loadgen` in a pod, and OpenAI's own client for single answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kubernetes.images import CLIENT, name
from tests.kubernetes.kube import Kube, Object, safe_pod
from tests.kubernetes.shell import Failed, wait_until

NAMESPACE = "sluice-clients"
_CLIENT_FILE = Path(__file__).with_name("client.py")


@dataclass(frozen=True)
class Outcome:
    """What the clients saw. ``answers`` by end, ``tokens`` by decision; ``first_error`` of those that failed."""

    answers: dict[str, int]
    tokens: dict[str, int]
    seconds: float
    started_at: float
    errors: dict[str, int]
    first_token_p90_seconds: float | None

    @property
    def not_complete(self) -> int:
        return self.answers["offered"] - self.answers["complete"]

    @property
    def unverified_share(self) -> float:
        return self.tokens.get("unverified", 0) / max(1, self.tokens["total"])

    def figures(self) -> dict[str, Any]:
        return {
            "answers": self.answers["offered"],
            "answers_failed": self.not_complete,
            "errors": self.errors,
            "tokens": self.tokens["total"],
            "unverified_tokens": self.tokens.get("unverified", 0),
            "unverified_share": self.unverified_share,
            "seconds": self.seconds,
            "first_token_p90_seconds": self.first_token_p90_seconds,
        }


class Load:
    """One load that runs in a pod. ``steps``: (second, requests a second)."""

    def __init__(self, kube: Kube, url: str, label: str, steps: list[tuple[float, float]], seconds: float, tokens: int) -> None:
        self._kube, self._pod, self._seconds = kube, f"load-{label}", seconds
        (_, rate), *others = steps
        arguments = ["loadgen", url, "--rate", str(rate), "--duration", str(seconds), "--max-tokens", str(tokens), "--json"]
        arguments += [part for at, then in others for part in ("--step", f"{at}:{then}")] + [
            "--drain",
            "120",
            "--clients",
            "64",
        ]
        kube.delete("pod", self._pod, NAMESPACE)
        kube.apply(safe_pod(self._pod, NAMESPACE, name("policy"), [], arguments=arguments, labels={"app": "load"}))
        wait_until("the load runs", self._runs, 90)

    def _runs(self) -> bool:
        return "complete" in self._kube.logs(self._pod, NAMESPACE)  # its first line of progress

    def end(self) -> None:
        """Now, without figures."""
        self._kube.delete("pod", self._pod, NAMESPACE, now=True)

    def outcome(self) -> Outcome:
        """Waits for its end."""
        text = self._kube.finished(self._pod, NAMESPACE, self._seconds + 200)
        line = next((line for line in text.splitlines() if line.startswith("{")), None)
        if line is None:
            raise Failed(f"the load printed no figures: {text[-500:]}")
        found = json.loads(line)
        return Outcome(
            answers=found["answers"],
            tokens=found["tokens"],
            seconds=round(found["duration_seconds"], 1),
            started_at=found["started_at"],
            errors=found["errors"],
            first_token_p90_seconds=found["seconds"]["first_token"]["p90"],
        )


class Client:
    """A pod from which OpenAI's client and plain connections are tried. ``labels``: what network policies know it by."""

    def __init__(self, kube: Kube, pod: str, namespace: str, labels: dict[str, str] | None = None) -> None:
        self._kube, self.pod, self.namespace = kube, pod, namespace
        self._labels = labels or {"app": pod}

    def start(self) -> Client:
        files = f"{self.pod}-files"
        config: Object = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": files, "namespace": self.namespace},
            "data": {"client.py": _CLIENT_FILE.read_text()},
        }
        self._kube.delete("pod", self.pod, self.namespace)
        pod = safe_pod(self.pod, self.namespace, CLIENT, ["sleep", "86400"], labels=self._labels, files=files)
        self._kube.apply(config, pod)
        wait_until(f"pod {self.pod} is ready", lambda: self._kube.ready(self.namespace, f"app={self._labels['app']}"), 90)
        return self

    def ask(self, url: str, **body: Any) -> dict[str, Any]:
        """One answer, streamed by OpenAI's client: its text, and the ``sluice`` object of the last chunk."""
        found: dict[str, Any] = json.loads(self._run("ask", json.dumps({"url": url, **body})))
        return found

    def reach(self, targets: list[str]) -> dict[str, str]:
        """``host:port`` to ``open``, ``refused``, ``timeout`` or ``no name``."""
        found: dict[str, str] = json.loads(self._run("reach", json.dumps(targets)))
        return found

    def _run(self, what: str, argument: str) -> str:
        return self._kube.exec(self.pod, self.namespace, "python", "/client/client.py", what, argument, seconds=180)


def reach_from(kube: Kube, pod: str, namespace: str, targets: list[str]) -> dict[str, str]:
    """The same from a pod of the release, whose image has no client: the program comes on standard input."""
    text = kube.exec(pod, namespace, "python", "-", "reach", json.dumps(targets), stdin=_CLIENT_FILE.read_text())
    found: dict[str, str] = json.loads(text)
    return found
