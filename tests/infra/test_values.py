"""The chart's values: what is refused with a reason, and what is made from other files."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.cli import chart_files
from services.cli.chart_files import README, SCHEMA
from tests.infra import chart
from tests.infra.cases import MATRIX, Values
from tests.infra.chart import ChartError
from tests.infra.conftest import ROOT, Rendered


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"edgeWorker": {"config": {"k_maximum": 8}}}, "k_maximum"),
        ({"edgeWorker": {"config": {"k": 65}}}, "maximum"),
        ({"edgeWorker": {"config": {"signal": "mood"}}}, "one of"),
        ({"edgeWorker": {"config": {"credential": "sluice1:x"}}}, "credential"),
        ({"verifier": {"config": {"master_keys": "1:00"}}}, "master_keys"),
        ({"verifier": {"config": {"kafka_password": "p"}}}, "kafka_password"),
        ({"verifier": {"config": {"metrics_port": 1}}}, "metrics_port"),
        ({"verifier": {"config": {"group_instance_id": "one-for-all"}}}, "group_instance_id"),
        ({"policy": {"config": {"prometheus_url": "http://x"}}}, "prometheus_url"),
        ({"topics": {"config": {"partitions": 3}}}, "partitions"),
        ({"verifierr": {}}, "verifierr"),
        ({"redis": {"url": "redis://user:password@redis:6379"}}, "pattern"),
        ({"verifier": {"resources": {"limits": {"memory": "4GB"}}}}, "pattern"),
        ({"verifier": {"replicas": 13}}, "there are 12 partitions"),
        ({"verifier": {"autoscaling": {"kind": "keda", "maxReplicas": 13}}}, "there are 12 partitions"),
        ({"verifier": {"autoscaling": {"kind": "keda", "minReplicas": 9}}}, "above maxReplicas"),
        ({"verifier": {"autoscaling": {"kind": "hpa", "minReplicas": 0}}}, "only KEDA"),
        ({"kafka": {"security": "sasl_ssl"}, "verifier": {"autoscaling": {"kind": "keda"}}}, "login of its own"),
        ({"verifier": {"existingSecret": ""}}, "sluice_verifier_master_keys"),
        ({"edgeWorker": {"existingSecret": ""}}, "sluice_edge_credential"),
        ({"edgeWorker": {"kind": "DaemonSet"}}, "every node"),
        ({"edgeWorker": {"ingress": {"enabled": True}}}, "by which name"),
        ({"models": {"target": {"reference": "owner/name@main", "download": True}}}, "40 digits"),
    ],
)
def test_values_that_cannot_work_are_refused_with_a_reason(tools: Path, tmp_path: Path, values: Values, said: str) -> None:
    with pytest.raises(ChartError, match=said):
        chart.template(tools / "helm", tmp_path, [values])


def test_the_schema_has_todays_settings() -> None:
    assert chart_files.schema() == SCHEMA.read_text(), "run `make docs`"


def test_the_page_is_that_of_the_values() -> None:
    assert chart_files.readme() == README.read_text(), "run `make docs`"


def test_settings_that_the_chart_sets_cannot_be_set_beside_it() -> None:
    """The schema learns them from the templates: here from what a template that sets everything gives."""
    schema = json.loads(SCHEMA.read_text())["$defs"]
    for name, cls in chart_files.settings_classes().items():
        free = set(schema[name]["properties"])
        assert free < set(cls.model_fields)
        assert not {field for field in free if field.startswith(("kafka_", "redis_url", "redis_ca", "metrics_"))}


def test_rules_and_dashboards_are_those_beside_the_chart(rendered: Rendered) -> None:
    release = rendered.releases["secure"]
    groups = [g for p in sorted((ROOT / "infra" / "prometheus").glob("*.rules.yml")) for g in _groups(p)]
    found = release.of("PrometheusRule")[0]["spec"]["groups"]
    for group in found:
        for rule in group["rules"]:
            url = rule.get("annotations", {}).pop("runbook_url", None)
            assert url == (f"https://runbooks.internal/{rule['annotations']['runbook']}" if "alert" in rule else None)
    assert found == groups
    dashboards = {p.name: json.loads(p.read_text()) for p in (ROOT / "infra" / "grafana" / "dashboards").glob("*.json")}
    carried = {k: json.loads(v) for m in release.of("ConfigMap") for k, v in m["data"].items() if k.endswith(".json")}
    assert carried == dashboards
    assert dashboards


def test_a_package_has_the_files_themselves(tools: Path, tmp_path: Path) -> None:
    """Rules and dashboards are symbolic links here; a package is used far from what they point to."""
    chart.package(tools / "helm", tmp_path)
    with tarfile.open(next(tmp_path.glob("sluice-*.tgz"))) as package:
        sizes = {member.name: member.size for member in package.getmembers() if member.isfile()}
    for path in (
        *(ROOT / "infra" / "prometheus").glob("*.rules.yml"),
        *(ROOT / "infra" / "grafana" / "dashboards").glob("*.json"),
    ):
        assert sizes[f"sluice/files/{path.parent.name}/{path.name}"] > 100


def test_jobs_are_called_as_the_alerts_and_dashboards_have_it(rendered: Rendered) -> None:
    jobs = {
        relabel["replacement"]
        for monitor in rendered.releases["secure"].of("PodMonitor")
        for endpoint in monitor["spec"]["podMetricsEndpoints"]
        for relabel in endpoint["relabelings"]
        if relabel["targetLabel"] == "job"
    }
    assert jobs == {"sluice-edge-worker", "sluice-verifier", "sluice-policy"}


def test_notes_name_what_is_left_to_do(tools: Path, tmp_path: Path) -> None:
    trial = chart.notes(tools / "helm", tmp_path, MATRIX["defaults"])
    fleet = chart.notes(tools / "helm", tmp_path, MATRIX["fleet"])
    assert [line[4:20] for line in trial.splitlines() if line.startswith("  * ")] == [
        "whoever reaches ",
        "token ids go to ",
        "token ids go to ",
        "the pods may rea",
        "the pods may rea",
        "the policy needs",
        "one verifier: wh",
    ]
    assert "  * " not in fleet
    assert f"helm test {chart.NAME}" in fleet


def test_a_changed_topics_job_has_another_name(tools: Path, tmp_path: Path) -> None:
    """A Job cannot be changed in place."""

    def name(values: Values) -> str:
        found = chart.release(chart.template(tools / "helm", tmp_path, [values]), [values]).of("Job")
        return str(found[0]["metadata"]["name"])

    assert name({}) == name({"policy": {"replicas": 3}})
    assert name({}) != name({"kafka": {"partitions": 24}})


def test_every_case_of_the_matrix_is_another_release(rendered: Rendered) -> None:
    texts = [path.read_text() for path in rendered.files.values()]
    assert len(set(texts)) == len(MATRIX) + 1


def _groups(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(path.read_text())["groups"]
    return found
