"""Strimzi's and Valkey's files beside the chart say what the code says: topics, rights, the server's settings."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import redis
import yaml

from services.cli.local.ports import free_port
from services.cli.local.redis_server import server_binary
from services.cli.topics import acls, plan
from services.cli.topics.settings import TopicsSettings
from services.common.keys import VERIFIER_GROUP
from tests.infra.conftest import ROOT

STRIMZI = ROOT / "infra" / "strimzi"
VALKEY = ROOT / "infra" / "valkey"
EXAMPLES = ROOT / "infra" / "helm" / "sluice" / "examples"


def documents(path: Path) -> list[dict[str, Any]]:
    return [d for d in yaml.safe_load_all(path.read_text()) if d]


def test_topics_are_those_of_the_command() -> None:
    found = {d["metadata"]["name"]: d["spec"] for d in documents(STRIMZI / "topics.yaml")}
    wanted = plan.wanted(TopicsSettings(partitions=found["sluice.candidates"]["partitions"]), brokers=3)
    assert set(found) == {topic.name for topic in wanted}
    for topic in wanted:
        spec = found[topic.name]
        assert (spec["partitions"], spec["replicas"]) == (topic.partitions, topic.replication)
        assert {key: str(value) for key, value in spec["config"].items()} == topic.config
    fleet = yaml.safe_load((EXAMPLES / "fleet.yaml").read_text())
    assert fleet["kafka"]["partitions"] == found["sluice.candidates"]["partitions"]


def test_users_have_the_rights_of_the_command_and_no_more() -> None:
    found = {
        (user["metadata"]["name"], acl["resource"]["type"], acl["resource"]["name"], operation)
        for user in documents(STRIMZI / "users.yaml")
        for acl in user["spec"]["authorization"]["acls"]
        for operation in acl["operations"]
    }
    wanted = {
        (right.user, right.resource, right.name, right.operation)
        for right in acls.rights("sluice-edge", "sluice-verifier", "sluice-operator", VERIFIER_GROUP)
    }
    keda = {("sluice-keda", "topic", "sluice.candidates", "Describe"), ("sluice-keda", "group", VERIFIER_GROUP, "Describe")}
    assert found == wanted | keda


def test_the_examples_reach_what_is_beside_the_chart() -> None:
    """Addresses, ports, users and Secrets of the examples are those that Strimzi and Valkey make."""
    users = {user["metadata"]["name"] for user in documents(STRIMZI / "users.yaml")}
    for example, kafka_file, valkey_file in (("laptop", "laptop", "laptop"), ("fleet", "cluster", "cluster")):
        values = yaml.safe_load((EXAMPLES / f"{example}.yaml").read_text())
        kafka = next(d for d in documents(STRIMZI / f"{kafka_file}.yaml") if d["kind"] == "Kafka")
        listener = kafka["spec"]["kafka"]["listeners"][0]
        assert values["kafka"]["bootstrap"] == f"{kafka['metadata']['name']}-kafka-bootstrap:{listener['port']}"
        assert values["kafka"].get("security", "plaintext") == ("sasl_ssl" if listener["tls"] else "plaintext")
        service = next(d for d in documents(VALKEY / f"{valkey_file}.yaml") if d["kind"] == "Service")
        name, port = service["metadata"]["name"], service["spec"]["ports"][0]["port"]
        assert re.fullmatch(rf"rediss?://{name}:{port}/0", values["redis"]["url"])
        for service_values in (values["edgeWorker"], values.get("verifier", {})):
            named = {service_values.get("kafkaUsername"), *(k["secret"] for k in service_values.get("secretKeys", []))}
            assert named - {None} <= users


def test_valkey_starts_with_these_arguments_and_evicts_nothing(tmp_path: Path) -> None:
    """The real server; the other file differs by TLS and users, which this one has not been built with."""
    port = free_port()
    here = valkey_arguments("laptop") | {"--dir": str(tmp_path), "--bind": "127.0.0.1", "--port": str(port)}
    command = [str(server_binary()), *(part for pair in here.items() for part in pair)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert any("Ready to accept connections" in line for line in server.stdout), "it did not start"
            with redis.Redis(port=port, decode_responses=True) as client:
                assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
                assert client.config_get("save") == {"save": ""}
                assert int(client.config_get("maxmemory")["maxmemory"]) > 0
        finally:
            server.terminate()


def test_valkey_of_a_fleet_differs_by_tls_users_and_memory_only() -> None:
    plain, secure = valkey_arguments("laptop"), valkey_arguments("cluster")
    assert {flag for flag in plain if plain[flag] != secure.get(flag)} == {"--protected-mode", "--maxmemory"}
    assert secure["--port"] == "0", "nothing in the open"
    assert secure["--tls-port"] == "6379"
    deployment = next(d for d in documents(VALKEY / "cluster.yaml") if d["kind"] == "Deployment")
    places = tuple(m["mountPath"] for m in deployment["spec"]["template"]["spec"]["containers"][0]["volumeMounts"])
    assert all(value.startswith(places) for value in secure.values() if value.startswith("/"))


def valkey_arguments(name: str) -> dict[str, str]:
    """Each flag with its value; without the program."""
    deployment = next(d for d in documents(VALKEY / f"{name}.yaml") if d["kind"] == "Deployment")
    program, *parts = deployment["spec"]["template"]["spec"]["containers"][0]["command"]
    assert program == "valkey-server"
    return dict(zip(parts[::2], parts[1::2], strict=True))
