"""infra/compose/compose.yaml says only what the services, the images and the files beside it can keep.

No container engine is here: what the file means is checked, not that it runs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from services.cli.topics.settings import TopicsSettings
from services.edge_worker.settings import EdgeSettings
from services.policy.settings import PolicySettings
from services.verifier.settings import VerifierSettings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "compose"
DOCKERFILE = (ROOT / "infra" / "docker" / "Dockerfile").read_text()
SETTINGS: tuple[type[BaseSettings], ...] = (EdgeSettings, VerifierSettings, PolicySettings, TopicsSettings)
OURS = ("edge-worker", "verifier", "policy", "keys", "topics")


def variables() -> set[str]:
    named = {f"{cls.model_config['env_prefix']}{field}".upper() for cls in SETTINGS for field in cls.model_fields}
    return named | {"SLUICE_SECRETS_DIR"}


@pytest.fixture(scope="module")
def stack() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return loaded


@pytest.fixture(scope="module")
def services(stack: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = stack["services"]
    return found


def test_all_parts_are_there(services: dict[str, Any]) -> None:
    assert set(services) == {*OURS, "kafka", "valkey", "prometheus", "grafana"}


def test_nobody_is_root_or_writes_to_its_root(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        if name not in OURS:  # the user of our own images is in the Dockerfile
            assert re.fullmatch(r"[1-9]\d*:\d+", service["user"]), name
        assert not service.get("privileged"), name


def test_our_images_are_the_targets_of_the_dockerfile(services: dict[str, dict[str, Any]]) -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.M))
    arguments = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.M))
    for name in OURS:
        build = services[name]["build"]
        assert build["target"] in targets, name
        assert set(build["args"]) <= arguments, name
        assert (FOLDER / build["context"] / build["dockerfile"]).is_file(), name
        assert services[name]["image"].partition(":")[0] == f"sluice-{build['target']}", name


def test_images_of_others_are_pinned(services: dict[str, dict[str, Any]]) -> None:
    for name in set(services) - set(OURS):
        assert re.search(r":v?\d+\.\d+", services[name]["image"]), name


def test_every_setting_exists(services: dict[str, dict[str, Any]]) -> None:
    known = variables()
    for name in OURS:
        given = set(services[name].get("environment", {}))
        assert given <= known, f"{name}: {given - known}"
    for variable in re.findall(r"\b(SLUICE_(?:EDGE|VERIFIER|POLICY)_\w+)=", DOCKERFILE):
        assert variable in known, variable


def test_every_secret_file_is_a_setting(services: dict[str, dict[str, Any]]) -> None:
    known = {name.lower() for name in variables()}
    (script,) = services["keys"]["command"]
    written = set(re.findall(r">(?:verifier|edge-worker)/(\w+)", script))
    assert written == {"sluice_verifier_master_keys", "sluice_edge_credential"} <= known


def test_a_service_sees_its_own_secrets_only(services: dict[str, dict[str, Any]]) -> None:
    for name in ("verifier", "edge-worker"):
        (volume,) = services[name]["volumes"]
        source, target, mode = volume.split(":")
        assert mode == "ro", name
        assert target == services[name]["environment"]["SLUICE_SECRETS_DIR"], name
        assert f"{source}:{target}" in services["keys"]["volumes"], name
        assert target in DOCKERFILE, name


def test_names_ports_and_conditions_meet(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for value in map(str, service.get("environment", {}).values()):
            for host in re.findall(r"(?:redis://|http://|^)([a-z-]+):\d+", value):
                assert host in services, f"{name}: {value}"
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[needed], f"{name} waits for {needed}"
            else:
                assert services[needed]["restart"] == "no", f"{name} waits for {needed} to end"
    assert services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://kafka:9092"
    for name in ("edge-worker", "verifier", "policy"):
        port = re.search(r"127\.0\.0\.1:(\d+)", " ".join(services[name]["healthcheck"]["test"]))
        short = name.partition("-")[0].upper()
        assert port is not None
        assert f"SLUICE_{short}_METRICS_PORT={port[1]}" in DOCKERFILE, name


def test_ports_are_for_this_machine_only(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: {port}"


def test_mounted_files_and_volumes_exist(stack: dict[str, Any], services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (FOLDER / source).exists(), f"{name}: {source}"
            else:
                assert source in stack["volumes"], f"{name}: {source}"


def test_a_stop_leaves_time_to_drain(services: dict[str, dict[str, Any]]) -> None:
    for name, drain in (
        ("verifier", VerifierSettings.model_fields["drain_seconds"].default),
        ("edge-worker", EdgeSettings.model_fields["drain_seconds"].default),
    ):
        assert int(services[name]["stop_grace_period"].removesuffix("s")) >= drain + 10, name


def test_prometheus_scrapes_every_service_as_the_rules_expect(services: dict[str, dict[str, Any]]) -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    for name in ("edge-worker", "verifier", "policy"):
        (found,) = jobs[f"sluice-{name}"]["dns_sd_configs"]
        assert found["names"] == [name]
        assert f"METRICS_PORT={found['port']}" in DOCKERFILE
    interval = float(config["global"]["scrape_interval"].removesuffix("s"))
    assert interval == PolicySettings.model_fields["scrape_seconds"].default
    mounted = [v for v in services["prometheus"]["volumes"] if v.startswith("../prometheus:")]
    (pattern,) = config["rule_files"]
    assert mounted == [f"../prometheus:{Path(pattern).parent}:ro"]
    assert list((ROOT / "infra" / "prometheus").glob(Path(pattern).name))


def test_grafana_finds_its_dashboards_and_its_source(services: dict[str, dict[str, Any]]) -> None:
    provisioning = ROOT / "infra" / "grafana" / "provisioning"
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    assert mounts["../grafana/provisioning"] == "/etc/grafana/provisioning"
    (source,) = yaml.safe_load(next((provisioning / "datasources").glob("*.y*ml")).read_text())["datasources"]
    assert source["url"] == "${PROMETHEUS_URL}"
    assert (
        services["grafana"]["environment"]["PROMETHEUS_URL"]
        == services["policy"]["environment"]["SLUICE_POLICY_PROMETHEUS_URL"]
    )
    (provider,) = yaml.safe_load(next((provisioning / "dashboards").glob("*.y*ml")).read_text())["providers"]
    assert provider["options"]["path"] == mounts["../grafana/dashboards"]
    assert list((ROOT / "infra" / "grafana" / "dashboards").glob("*.json"))
