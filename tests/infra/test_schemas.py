"""What others' tools say of infra/: Kubernetes' and the operators' schemas, checkov, yamllint, hadolint, compose."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.cli.chart_files import CHART
from tests.infra.conftest import ROOT, Rendered

HERE = Path(__file__).parent
INFRA = ROOT / "infra"
BESIDE = sorted((*(INFRA / "strimzi").glob("*.yaml"), *(INFRA / "valkey").glob("*.yaml")))
CRDS = ROOT.parent / "shared" / "tools" / "validate_crds.py"
WITHOUT_CRDS = "the operators' schemas are not beside this checkout"


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, cwd=ROOT)


def versions(tools: Path) -> str:
    """The oldest that the chart takes and the newest that there is a schema for."""
    oldest = re.search(r"\d+\.\d+", yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"])
    assert oldest is not None
    newest = run(tools / "python", "-c", "import kubernetes_validate; print(kubernetes_validate.latest_version())").stdout
    assert newest.startswith("1.")
    return f"{oldest[0]},{newest.strip()}"


def test_kubernetes_takes_every_document(tools: Path, rendered: Rendered) -> None:
    valkey = [path for path in BESIDE if path.parent.name == "valkey"]
    done = run(tools / "python", HERE / "kubernetes_schemas.py", versions(tools), rendered.distinct, *valkey)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_documents_that_kubernetes_would_not_take_are_found(tools: Path, rendered: Rendered, tmp_path: Path) -> None:
    good = rendered.releases["defaults"].of("Deployment")[0]
    mutants: dict[str, dict[str, Any]] = {
        "a field": {"spec": good["spec"] | {"replica": 2}},
        "a kind": {"kind": "Deploymnt"},
        "a version": {"apiVersion": "apps/v1beta1"},
    }
    bad = [good | change | {"metadata": {"name": name}} for name, change in mutants.items()]
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump_all(bad))
    lines = run(tools / "python", HERE / "kubernetes_schemas.py", versions(tools), tmp_path / "bad.yaml").stdout.splitlines()
    assert len(lines) == 2 * len(mutants), "in the oldest and in the newest version"
    for name, said in (("a field", "replica"), ("a kind", "SchemaNotFoundError"), ("a version", "SchemaNotFoundError")):
        assert sum(f"/{name}: " in line and said in line for line in lines) == 2


@pytest.mark.skipif(not CRDS.exists(), reason=WITHOUT_CRDS)
def test_the_operators_take_every_custom_resource(tools: Path, rendered: Rendered, tmp_path: Path) -> None:
    strimzi = [path for path in BESIDE if path.parent.name == "strimzi"]
    assert strimzi
    done = run(tools / "python", CRDS, rendered.distinct, *strimzi)
    assert done.returncode == 0, done.stdout
    bad = yaml.safe_load(yaml.safe_dump(rendered.releases["fleet"].of("ScaledObject")[0]))
    bad["spec"]["triggers"][1]["metadata"]["metricName"] = "age"
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(bad))
    assert "unknown parameter metricName" in run(tools / "python", CRDS, tmp_path / "bad.yaml").stdout


def test_checkov_finds_nothing(tools: Path, rendered: Rendered) -> None:
    """Zero findings; exceptions stand in checkov.yaml and on the documents, each with its reason."""
    files = [rendered.files[name] for name in ("defaults", "one-gpu", "secure")]
    files += [path for path in BESIDE if path.parent.name == "valkey"]
    arguments = [part for path in files for part in ("--file", path)]
    done = run(tools / "checkov", "--skip-download", "--config-file", HERE / "checkov.yaml", *arguments)
    report = json.loads(done.stdout)
    found = [(c["check_id"], c["check_name"], c["resource"], c["file_path"]) for c in report["results"]["failed_checks"]]
    assert found == []
    assert report["summary"]["passed"] > 1000, "it looked at them"
    assert report["summary"]["parsing_errors"] == 0


def test_yaml_is_tidy(tools: Path, rendered: Rendered) -> None:
    """Of what is written by hand and what is rendered; a key that is there twice would win in silence."""
    by_hand = [p for p in INFRA.rglob("*.y*ml") if "templates" not in p.parts]
    done = run(tools / "yamllint", "--strict", "--config-file", HERE / "yamllint.yaml", *by_hand, rendered.distinct)
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_finds_nothing(tools: Path) -> None:
    files = sorted((INFRA / "docker").glob("*Dockerfile*"))
    assert files
    done = run(tools / "hadolint", *files)
    assert (done.returncode, done.stdout) == (0, "")


def test_compose_takes_the_stack(tools: Path) -> None:
    done = run(tools / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", INFRA / "compose" / "compose.yaml")
    assert done.returncode == 0, done.stdout
