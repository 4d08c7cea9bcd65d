"""What every check gets to work with, and where its figures go."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.stamp import machine
from tests.kubernetes.images import Builder
from tests.kubernetes.kube import Kube
from tests.kubernetes.load import Client, Load
from tests.kubernetes.outside import Outside
from tests.kubernetes.prometheus import Prometheus
from tests.kubernetes.release import URL, Release
from tests.kubernetes.shell import Failed

Figures = dict[str, Any]
RATE, TOKENS = 0.4, 24  # requests a second and tokens of an answer that one verifier on half a core carries


@dataclass
class Record:
    """Figures by check, written to ``file`` after each; ``failures``: what was not met. ``names``: of all checks."""

    file: Path
    names: list[str]
    arguments: list[str]
    parts: dict[str, Figures] = field(default_factory=dict)
    failures: dict[str, list[str]] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)

    def say(self, line: str) -> None:
        print(f"[{time.monotonic() - self.begun:6.0f} s] {line}", flush=True)  # noqa: T201

    def run(self, name: str, work: Callable[[list[str]], Figures]) -> None:
        """One check: it puts what is not as it should be into the list that it is given. One that breaks off has failed."""
        self.say(f"== {name}")
        began, wrong = time.monotonic(), list[str]()
        try:
            figures = work(wrong)
        except Failed as error:
            figures = {}
            wrong.append(str(error))
        self.parts[name] = {**_rounded(figures), "took_seconds": round(time.monotonic() - began, 1)}
        self.failures.pop(name, None)
        if wrong:
            self.failures[name] = wrong
        self.write()
        self.say(json.dumps(self.parts[name]))
        self.say("as expected" if not wrong else f"NOT AS EXPECTED: {'; '.join(wrong)}")

    def write(self) -> None:
        command = " ".join(["python -m tests.kubernetes", *map(shlex.quote, self.arguments)])
        about = {"command": command, "machine": machine(), "date": datetime.now(UTC).date().isoformat()}
        not_run = [name for name in self.names if name not in self.parts]
        found = {"failures": self.failures, "not_run": not_run, "checks": self.parts}
        self.file.write_text(json.dumps(about | found, indent=1) + "\n")


@dataclass
class Site:
    record: Record
    kube: Kube
    builder: Builder
    outside: Outside
    release: Release
    prometheus: Prometheus
    client: Client

    def load(self, label: str, seconds: float, steps: list[tuple[float, float]] | None = None, tokens: int = TOKENS) -> Load:
        return Load(self.kube, URL, label, steps or [(0, RATE)], seconds, tokens)

    def ask(self, **body: Any) -> dict[str, Any]:
        """One answer through the Service."""
        wanted = {"messages": [{"role": "user", "content": "Why is the sky blue?"}], "max_tokens": TOKENS, **body}
        return self.client.ask(f"{URL}/v1", **wanted)

    def verdict_p99_seconds(self, seconds: float) -> float | None:
        """Of the round trips of the last ``seconds``, by their histogram (its bins bound how exact that is)."""
        rate = f"sum by (le) (rate(sluice_round_trip_seconds_bucket[{max(20, round(seconds))}s]))"
        return self.prometheus.value(f"histogram_quantile(0.99, {rate})")


def verified(account: Figures) -> int:
    """Tokens of an answer that a verifier accepted, corrected or wrote."""
    tokens = account["tokens"]
    return int(tokens["accepted"]) + int(tokens["corrected"]) + int(tokens["bonus"])


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
