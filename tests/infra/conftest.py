"""The tools in .venv/infra, and the chart rendered once for each case of the matrix."""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.infra import chart
from tests.infra.cases import BARE, MATRIX
from tests.infra.semantics.release import Release

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".venv" / "infra" / "bin"


@dataclass(frozen=True)
class Rendered:
    """Manifests of each case, by its name: as documents, and for other tools in ``files``, there without the long dashboards.
    ``distinct``: one file with each document that differs from all others, for the slow tools."""

    files: dict[str, Path]
    releases: dict[str, Release]
    distinct: Path


@pytest.fixture(scope="session")
def tools() -> Path:
    """The folder with helm, checkov and the others."""
    if not (TOOLS / "helm").exists():
        pytest.fail("the tools that check infra/ are missing: `make test-infra` installs them")
    return TOOLS


@pytest.fixture(scope="session")
def rendered(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    folder = tmp_path_factory.mktemp("rendered")
    cases = MATRIX | {"bare": [BARE]}

    def render(name: str) -> tuple[str, Path, str]:
        scratch = tmp_path_factory.mktemp(name)
        chart.lint(tools / "helm", scratch, cases[name])
        text = chart.template(tools / "helm", scratch, cases[name])
        path = folder / f"{name}.yaml"
        path.write_text(_joined(part for part in _parts(text) if "-dashboard-" not in part))
        return name, path, text

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(render, cases))
    distinct = folder / "distinct.yaml"
    distinct.write_text(_joined(dict.fromkeys(part for _, path, _ in found for part in _parts(path.read_text()))))
    return Rendered(
        {name: path for name, path, _ in found},
        {name: chart.release(text, cases[name]) for name, _, text in found},
        distinct,
    )


def _parts(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"^---$", text, flags=re.MULTILINE) if part.strip()]


def _joined(parts: Iterable[str]) -> str:
    return "\n---\n".join(parts) + "\n"
