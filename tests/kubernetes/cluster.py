"""The Kubernetes that the checks run on: one that is made for them, or the one that KUBECONFIG names."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tests.kubernetes.shell import Failed, run

TOOLS = Path(__file__).parents[3] / "shared" / "tools"
BUILD_SECONDS = 5400.0


class Cluster(Protocol):
    """``host``: this machine's address as pods see it. ``dns``: where pods ask for names, as peers of a NetworkPolicy; empty:
    the chart's default. ``base``: a base image that is on this machine; empty: the Dockerfile's own, to be pulled."""

    @property
    def host(self) -> str: ...

    @property
    def dns(self) -> Sequence[Mapping[str, object]]: ...

    @property
    def environment(self) -> Mapping[str, str]: ...

    @property
    def base(self) -> str: ...

    @property
    def running(self) -> bool: ...

    def start(self) -> None: ...

    def take(self, archive: Path) -> None: ...

    def stop(self) -> None: ...


class Made:
    """A node of one's own by ``kube.sh``, with KEDA and the Prometheus operator; it ends with the checks."""

    host = "10.99.0.1"
    base = "localhost/python:3.11"

    def __init__(self) -> None:
        self._script = str(TOOLS / "kube.sh")
        if not Path(self._script).is_file():
            raise Failed("no cluster: set KUBECONFIG, and say how images get into it with --load (docs/deploy-kubernetes.md)")
        home = Path(os.environ.get("SLUICE_KUBE_HOME") or Path.home() / ".cache" / "sluice" / "kube")
        self.environment = {
            "KUBECONFIG": str(home / "state" / "admin.kubeconfig"),
            "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
        }
        self.dns = [{"ipBlock": {"cidr": "10.99.0.2/32"}}]

    @property
    def running(self) -> bool:
        try:
            run("kubectl", "get", "--raw", "/readyz", environment=self.environment, seconds=10)
        except Failed:
            return False
        return True

    def start(self) -> None:
        run(self._script, "build", seconds=BUILD_SECONDS)
        if not run("buildah", "--storage-driver", "overlay", "images", "-q", "--filter", f"reference={self.base}").strip():
            run(self._script, "base", self.base, seconds=1200)
        run(self._script, "stop")
        _detached(self._script, "start")
        run(self._script, "keda", seconds=300)
        run(self._script, "prometheus", seconds=300)

    def take(self, archive: Path) -> None:
        run(self._script, "image", str(archive), seconds=1200)

    def stop(self) -> None:
        run(self._script, "stop")


class Given:
    """The cluster of KUBECONFIG, with KEDA, the Prometheus operator and a Prometheus in it. ``load``: a command that brings an
    image archive into it; the archive's name is put behind."""

    base = ""
    running = False  # not by us
    dns: Sequence[Mapping[str, object]] = ()

    def __init__(self, kubeconfig: str, load: str, host: str) -> None:
        if not load or not host:
            raise Failed(
                "with KUBECONFIG say --load COMMAND (brings an image archive in) and --host ADDRESS (this machine's, for pods)"
            )
        self.environment = {"KUBECONFIG": kubeconfig}
        self._load, self.host = shlex.split(load), host

    def start(self) -> None:
        run(
            "kubectl", "get", "crd", "scaledobjects.keda.sh", "prometheuses.monitoring.coreos.com", environment=self.environment
        )

    def take(self, archive: Path) -> None:
        run(*self._load, str(archive), seconds=1200, environment=self.environment)

    def stop(self) -> None:
        """It was there before."""


def choose(load: str, host: str) -> Cluster:
    kubeconfig = os.environ.get("KUBECONFIG", "")
    return Given(kubeconfig, load, host) if kubeconfig else Made()


def _detached(*command: str) -> None:
    """The node's processes keep the output they were started with, so it must not be a pipe that somebody reads to its end."""
    run("bash", "-c", f"exec {shlex.join(command)} >/dev/null 2>&1", seconds=300)
