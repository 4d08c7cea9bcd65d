"""`sluice topics` on a real cluster; the plan behind it, without one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.topics import plan
from services.cli.topics.plan import Topic
from services.cli.topics.settings import TopicsSettings
from services.common.keys import CANDIDATES_TOPIC, DEAD_LETTER_TOPIC
from services.common.settings import ConfigError, load
from tests.cluster.fixtures import NewKafka
from tests.cluster.kafka import ApacheKafka
from tests.kafka.site import Site, sluice

WEEK_MS = 7 * 24 * 3_600_000


def topics(node: ApacheKafka, verb: str, *arguments: str, **settings: str) -> tuple[int, dict[str, Any]]:
    """Exit status, and the topics by name."""
    done = sluice("topics", verb, "--kafka", node.bootstrap, "--json", *arguments, SLUICE_TOPICS_=settings)
    assert done.stdout, done.stderr
    return done.returncode, {row["topic"]: row for row in json.loads(done.stdout)["topics"]}


def test_create_show_and_repair(new_kafka: NewKafka) -> None:
    node = new_kafka()
    code, rows = topics(node, "show")
    assert (code, {row["state"] for row in rows.values()}) == (1, {"missing"})
    refused = sluice("topics", "create", "--kafka", node.bootstrap, "--replication", "3")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "cannot have 3 copies" in refused.stderr
    assert "say --replication" in refused.stderr
    code, rows = topics(node, "create", "--partitions", "6")
    assert (code, {row["state"] for row in rows.values()}) == (0, {"created"})
    assert rows[CANDIDATES_TOPIC]["partitions"] == 6
    assert rows[CANDIDATES_TOPIC]["config"]["message.timestamp.type"] == "LogAppendTime"
    code, rows = topics(node, "create", "--partitions", "6")
    assert (code, {row["state"] for row in rows.values()}) == (0, {"as wanted"})

    # Somebody changes them by hand; another setting of theirs stays.
    change = ["--alter", "--topic", CANDIDATES_TOPIC, "--add-config"]
    node.admin("configs", *change, "message.timestamp.type=CreateTime,compression.type=gzip")
    code, rows = topics(node, "create", "--partitions", "6")
    found = [(d["what"], d["found"], d["wanted"]) for d in rows[CANDIDATES_TOPIC]["differences"]]
    assert (code, found) == (1, [("message.timestamp.type", "CreateTime", "LogAppendTime")])
    code, rows = topics(node, "create", "--partitions", "8", "--alter", RETENTION_SECONDS="7200")
    assert (code, rows[CANDIDATES_TOPIC]["state"], rows[CANDIDATES_TOPIC]["partitions"]) == (0, "altered", 8)
    described = node.admin("topics", "--describe", "--topic", CANDIDATES_TOPIC)
    for expected in ("PartitionCount: 8", "LogAppendTime", "retention.ms=7200000", "compression.type=gzip"):
        assert expected in described

    # What Kafka cannot do is refused, with the reason, and nothing is changed.
    code, rows = topics(node, "create", "--partitions", "4", "--alter", RETENTION_SECONDS="7200")
    assert (code, rows[CANDIDATES_TOPIC]["partitions"]) == (1, 8)
    assert "cannot take partitions away" in rows[CANDIDATES_TOPIC]["differences"][0]["obstacle"]
    done = sluice("topics", "show", "--kafka", node.bootstrap, "--partitions", "4")
    assert (done.returncode, "partitions is 8, wanted 4" in done.stdout) == (1, True)


@pytest.mark.parametrize(
    ("user", "password", "expected"),
    [
        ("operator", "wrong-secret", "refuses user 'operator': wrong user or password (SLUICE_TOPICS_KAFKA_USERNAME"),
        ("edge", "", "user 'edge' may not read the settings of topic sluice.candidates: give it DescribeConfigs on"),
        ("stranger", "", "user 'stranger' may not see topic sluice.candidates"),
    ],
)
def test_the_command_says_what_is_wrong(site: Site, user: str, password: str, expected: str) -> None:
    done = sluice("topics", "show", SLUICE_TOPICS_=site.knobs(user, password))
    assert done.returncode == 2
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr + done.stdout


def test_nobody_listens() -> None:
    done = sluice("topics", "create", "--kafka", "127.0.0.1:1")
    assert (done.returncode, done.stderr) == (2, "sluice: connection refused by 127.0.0.1:1: no broker listens there\n")


def test_dead_letters_are_not_kept_longer_than_a_week() -> None:
    with pytest.raises(ConfigError, match="seven days"):
        load(TopicsSettings, dead_letter_retention_hours=160, dead_letter_segment_hours=12)


@given(retention=st.integers(1, 168), segment=st.integers(1, 48), brokers=st.integers(1, 9), replication=st.integers(0, 5))
def test_every_plan_is_sound(retention: int, segment: int, brokers: int, replication: int) -> None:
    knobs = {"dead_letter_retention_hours": retention, "dead_letter_segment_hours": segment, "replication": replication}
    try:
        settings = load(TopicsSettings, **knobs)
    except ConfigError:
        assert retention + segment > 168
        return
    candidates, letters = plan.wanted(settings, brokers)
    # Kafka deletes closed files only: the newest message of one may wait for the file to close, then for its time to run out.
    assert int(letters.config["retention.ms"]) + int(letters.config["segment.ms"]) <= WEEK_MS
    for topic in (candidates, letters):
        assert topic.config["message.timestamp.type"] == "LogAppendTime"
        assert 1 <= int(topic.config["min.insync.replicas"]) <= topic.replication
        assert replication or topic.replication == min(3, brokers)
        assert not plan.differences(topic, topic)


def test_never_more_copies_in_step_than_there_are() -> None:
    """On a topic with one copy, wanting two of them to have a message would stop every write."""
    want = plan.wanted(load(TopicsSettings), brokers=3)[0]
    there = Topic(want.name, want.partitions, 1, {**want.config, "min.insync.replicas": "1"})
    found = plan.differences(want, there)
    assert [difference.what for difference in found] == ["replication"]
    assert plan.config_changes(found) == {}
    assert plan.more_partitions(found) == 0


def test_the_listed_rights() -> None:
    done = sluice("topics", "acls", "--edge", "e", "--verifier", "v", "--operator", "o", "--group", "g", "--json")
    rights = {(r["user"], r["operation"], r["resource"], r["name"]) for r in json.loads(done.stdout)["rights"]}
    assert {right for right in rights if right[0] != "o"} == {
        ("e", "Write", "topic", CANDIDATES_TOPIC),
        ("v", "Read", "topic", CANDIDATES_TOPIC),
        ("v", "Write", "topic", DEAD_LETTER_TOPIC),
        ("v", "Read", "group", "g"),
    }
    assert {right[3] for right in rights if right[0] == "o"} == {CANDIDATES_TOPIC, DEAD_LETTER_TOPIC}
