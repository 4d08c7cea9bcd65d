"""What the rendered chart means, under each set of values of the matrix."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trustme
from pydantic_settings import BaseSettings

from services.cli.topics.settings import TopicsSettings
from services.common.credentials import masters_text, new_master
from services.common.settings import SECRETS_DIR, load
from services.edge_worker.settings import EdgeSettings
from services.policy.settings import PolicySettings
from services.verifier.settings import VerifierSettings
from tests.identities import credential
from tests.infra.cases import MATRIX
from tests.infra.conftest import Rendered
from tests.infra.semantics import problems
from tests.infra.semantics.release import Pods

SETTINGS: dict[str, type[BaseSettings]] = {
    "edge-worker": EdgeSettings,
    "verifier": VerifierSettings,
    "policy": PolicySettings,
    "topics": TopicsSettings,
}


@pytest.mark.parametrize("case", MATRIX)
def test_a_release_has_no_problems(rendered: Rendered, case: str) -> None:
    assert problems(rendered.releases[case]) == []


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Secrets would hold, as files: /etc/sluice of a pod."""
    root = tmp_path_factory.mktemp("sluice")
    authority = trustme.CA()
    own = authority.issue_cert("client")
    for name in ("kafka", "redis", "kafka-client", "secrets"):
        (root / name).mkdir()
    for name in ("kafka", "redis"):
        authority.cert_pem.write_to_path(root / name / "ca.crt")
    own.cert_chain_pems[0].write_to_path(root / "kafka-client" / "tls.crt")
    own.private_key_pem.write_to_path(root / "kafka-client" / "tls.key")
    secrets = {"sluice_edge_credential": credential().text(), "sluice_verifier_master_keys": masters_text({1: new_master()})}
    secrets |= {f"sluice_{name}_kafka_password": "p" for name in ("edge", "verifier", "topics")}
    for name, secret in secrets.items():
        (root / "secrets" / name).write_text(secret)
    return root


@pytest.mark.parametrize("case", MATRIX)
def test_each_service_takes_the_settings_that_it_gets(
    rendered: Rendered, mounted: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Every variable is a setting, and together they are settings that the service starts with."""
    found = [pods for pods in rendered.releases[case].pods if pods.component in SETTINGS]
    assert found
    for pods in found:
        cls = SETTINGS[pods.component]
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("SLUICE_")]:
                patch.delenv(name)
            for name, value in environment(pods, mounted).items():
                patch.setenv(name, value)
            load(cls)
        prefix = str(cls.model_config["env_prefix"])
        known = {f"{prefix}{name}".upper() for name in cls.model_fields} | {SECRETS_DIR}
        assert {name for name in environment(pods, mounted) if name.startswith("SLUICE_")} <= known


def environment(pods: Pods, mounted: Path) -> dict[str, str]:
    """The pod's variables on this machine; passwords only where there is a login, as an operator would do."""
    values = {name: value.replace("/etc/sluice", str(mounted)) for name, value in pods.environment().items()}
    for variable in pods.spec["containers"][0].get("env", []):
        if "fieldRef" in variable.get("valueFrom", {}):
            values[variable["name"]] = f"{pods.name}-0"
    login = any(name.endswith("KAFKA_USERNAME") for name in values)
    if SECRETS_DIR in values and not login:
        values[SECRETS_DIR] = str(_without_passwords(mounted))
    return values


def _without_passwords(mounted: Path) -> Path:
    folder = mounted / "no-login"
    folder.mkdir(exist_ok=True)
    for name in ("sluice_edge_credential", "sluice_verifier_master_keys"):
        (folder / name).write_text((mounted / "secrets" / name).read_text())
    return folder


def test_the_policy_models_the_gate_of_the_edges(rendered: Rendered) -> None:
    """As the edges have it, unless the policy is told otherwise; and with the interval of the scrapes."""
    policy = rendered.releases["hpa"].component("policy")[0].environment()
    assert (policy["SLUICE_POLICY_TAU_U"], policy["SLUICE_POLICY_RISK"]) == ("0.5", "0.6")
    policy = rendered.releases["secure"].component("policy")[0].environment()
    assert (policy["SLUICE_POLICY_WAIT_TOKENS"], policy["SLUICE_POLICY_SCRAPE_SECONDS"]) == ("20", "2")
    monitor = rendered.releases["secure"].of("PodMonitor")[0]
    assert monitor["spec"]["podMetricsEndpoints"][0]["interval"] == "2s"


def test_large_numbers_have_no_exponent(rendered: Rendered) -> None:
    assert rendered.releases["secure"].component("topics")[0].environment()["SLUICE_TOPICS_PARTITION_BYTES"] == "2147483648"


def test_pods_of_a_device_are_called_like_the_device(rendered: Rendered) -> None:
    """A DaemonSet's worker keeps its name, and so its reply stream, when its pod is replaced."""
    for case, path in (("edges-only", "spec.nodeName"), ("defaults", "metadata.name")):
        variables = rendered.releases[case].component("edge-worker")[0].spec["containers"][0]["env"]
        worker = next(v for v in variables if v["name"] == "SLUICE_EDGE_WORKER")
        assert worker["valueFrom"]["fieldRef"]["fieldPath"] == path
