"""What happens in the cluster over time, seen from a thread."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from tests.kubernetes.kube import Kube
from tests.kubernetes.shell import Failed

T = TypeVar("T")


class Sampled(Generic[T]):
    """``look`` once every ``seconds`` until ``stop``: ``seen`` has each change, with its time in seconds since 1970."""

    def __init__(self, look: Callable[[], T], seconds: float = 0.3) -> None:
        self.seen: list[tuple[float, T]] = []
        self._look, self._seconds = look, seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                found = self._look()
            except Failed:
                continue  # the API server is busy: the next look is soon
            if not self.seen or self.seen[-1][1] != found:
                self.seen.append((time.time(), found))
            self._over.wait(self._seconds)

    def stop(self) -> list[tuple[float, T]]:
        self._over.set()
        self._thread.join(60)
        return self.seen


class Followed:
    """The JSON lines that a pod logs from now on until it ends."""

    def __init__(self, kube: Kube, pod: str, namespace: str, file: Path) -> None:
        self._file = file
        self._output: IO[bytes] = file.open("wb")
        command = ["kubectl", "logs", "-f", pod, "-n", namespace]
        self._process = subprocess.Popen(command, stdout=self._output, stderr=subprocess.DEVNULL, env=_environment(kube))

    def lines(self, seconds: float) -> list[dict[str, Any]]:
        """Once the pod has ended."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._output.close()
        return [json.loads(line) for line in self._file.read_text().splitlines() if line.startswith("{")]


def when(line: dict[str, Any]) -> float:
    """Seconds since 1970 at which a service logged a line."""
    return datetime.fromisoformat(str(line["timestamp"])).timestamp()


def _environment(kube: Kube) -> dict[str, str]:
    return {**os.environ, **kube.environment}
