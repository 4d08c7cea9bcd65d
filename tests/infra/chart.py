"""Renders the chart with Helm, as an installation would."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from services.cli.chart_files import CHART
from tests.infra.cases import Values
from tests.infra.semantics.release import Document, Release

NAMESPACE = "sluice-test"
NAME = "trial"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the dashboards are long
_FLAGS = ("--namespace", NAMESPACE, "--api-versions", "policy/v1")


class ChartError(Exception):
    """What Helm refused, in its own words."""


def template(helm: Path, folder: Path, values: list[Values | str]) -> str:
    """The manifests. Raises ``ChartError``."""
    return _run(helm, "template", NAME, str(CHART), *_FLAGS, *_files(folder, values))


def lint(helm: Path, folder: Path, values: list[Values | str]) -> str:
    """Raises ``ChartError``."""
    return _run(helm, "lint", "--strict", str(CHART), "--namespace", NAMESPACE, *_files(folder, values))


def notes(helm: Path, folder: Path, values: list[Values | str]) -> str:
    """What an installation prints. Raises ``ChartError``."""
    text = _run(helm, "install", NAME, str(CHART), "--namespace", NAMESPACE, "--dry-run=client", *_files(folder, values))
    return text.rpartition("\nNOTES:\n")[2]


def package(helm: Path, folder: Path) -> None:
    """The chart as an archive in ``folder``. Raises ``ChartError``."""
    _run(helm, "package", str(CHART), "--destination", str(folder))


def release(text: str, values: list[Values | str]) -> Release:
    """The documents, and the names of what the values say that others make."""
    documents: list[Document] = [d for d in yaml.load_all(text, _LOADER) if d]
    given: list[Any] = [yaml.safe_load((CHART / "values.yaml").read_text())]
    given += [yaml.safe_load(Path(v).read_text()) if isinstance(v, str) else v for v in values]
    return Release(documents, NAMESPACE, frozenset(name for part in given for name in _outside(part)))


def _files(folder: Path, values: list[Values | str]) -> list[str]:
    arguments = []
    for number, value in enumerate(values):
        path = Path(value) if isinstance(value, str) else folder / f"values-{number}.yaml"
        if not isinstance(value, str):
            path.write_text(yaml.safe_dump(value))
        arguments += ["--values", str(path)]
    return arguments


def _run(helm: Path, *arguments: str) -> str:
    done = subprocess.run([str(helm), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ChartError("\n".join(line for line in done.stderr.splitlines() if not line.startswith("level=")) + done.stdout)
    return done.stdout


def _outside(values: Any, key: str = "") -> list[str]:
    if isinstance(values, Mapping):
        own = [str(values["name"])] if key.endswith("Secret") and values.get("name") else []
        return own + [name for k, v in values.items() for name in _outside(v, k)]
    if isinstance(values, list):
        return [name for v in values for name in _outside(v, key)]
    made_by_others = ("Secret", "ConfigMap", "Claim", "ClassName", "Secrets", "secret")
    return [values] if isinstance(values, str) and values and key.endswith(made_by_others) else []
