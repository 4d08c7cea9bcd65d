"""SASL/SCRAM over TLS with least rights, end to end: each service is a user of its own and may do what is listed, no more."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError

from services.common.kafka.link import KafkaLink, client_options
from services.common.keys import CANDIDATES_TOPIC, DEAD_LETTER_TOPIC, VERIFIER_GROUP
from services.common.messages import Cancel
from services.common.telemetry import configure_logging
from services.edge_worker.kafka_client import KafkaRedisClient
from services.edge_worker.verifier_client import LinkDown
from tests import identities
from tests.chaos.fleet import Fleet, Habits, jobs
from tests.cluster.fixtures import NewKafka
from tests.cluster.properties import USERS, password_of
from tests.kafka.site import Site, sluice
from tests.verifier.service import VerifierProcess

Lines = Callable[[], list[dict[str, Any]]]
SECRETS = [password_of(user) for user in USERS] + ["wrong-secret"]


class Verifiers:
    """Processes with the synthetic target."""

    def __init__(self, redis_url: str, folder: Path) -> None:
        self._redis_url, self._folder = redis_url, folder
        self.all: list[VerifierProcess] = []

    def start(self, **knobs: str) -> VerifierProcess:
        values = {"MODEL": "synthetic", "EMBEDDED": "false", "SESSION_TIMEOUT_MS": "6000", "DRAIN_SECONDS": "5"} | knobs
        log = self._folder / f"verifier-{len(self.all)}.log"
        self.all.append(VerifierProcess(values["KAFKA_BOOTSTRAP"], self._redis_url, log, **values))
        return self.all[-1]


@pytest.fixture
def verifiers(redis_url: str, tmp_path: Path) -> Iterator[Verifiers]:
    started = Verifiers(redis_url, tmp_path)
    try:
        yield started
        for verifier in started.all:
            said = verifier.log.read_text()
            assert "Traceback" not in said, said
            assert not shown(said)
    finally:
        for verifier in started.all:
            verifier.kill()


@pytest.fixture
def log_lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """The log of this process, set up as an edge worker's at its most talkative level."""
    before, written = structlog.get_config(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    configure_logging("edge_worker", "debug")
    everything = logging.StreamHandler(written)  # pytest has a handler of its own there, so that none was added for us
    logging.getLogger().addHandler(everything)

    yield lambda: [json.loads(line) for line in written.getvalue().splitlines() if line.startswith("{")]
    logging.getLogger().removeHandler(everything)
    logging.getLogger("aiokafka").setLevel(logging.NOTSET)
    structlog.configure(**before)
    assert not shown(written.getvalue())


def shown(text: str) -> list[str]:
    """What must be in no log: passwords, and the requests that carry them or token ids."""
    return [word for word in (*SECRETS, "SaslAuthenticateRequest", "ProduceRequest") if word in text]


@asynccontextmanager
async def edge(link: KafkaLink | str, redis_url: str) -> AsyncIterator[KafkaRedisClient]:
    client = KafkaRedisClient(signer=identities.signer("test.edge"), bootstrap=link, redis=redis_url, link_seconds=2.0)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def told(log_lines: Lines, event: str, seconds: float = 30.0) -> dict[str, Any]:
    """The first log line of this event."""
    end = time.monotonic() + seconds
    while True:
        found = [line for line in log_lines() if line["event"] == event]
        if found:
            return dict(found[0])
        assert time.monotonic() < end, f"no line {event!r}: {log_lines()}"
        await asyncio.sleep(0.05)


def reason(verifier: VerifierProcess, seconds: float = 60.0) -> str:
    """Why readiness says that Kafka cannot be used."""
    end = time.monotonic() + seconds
    while True:
        page = verifier.get("/readyz").json()
        if "kafka" in page["reasons"]:
            return str(page["reasons"]["kafka"])
        assert time.monotonic() < end, page
        time.sleep(0.1)


async def test_an_answer_from_end_to_end(site: Site, redis_url: str, verifiers: Verifiers) -> None:
    verifier = verifiers.start(**site.knobs("verifier"))
    await asyncio.to_thread(verifier.wait_ready)
    fleet = Fleet([identities.signer("test.secure")], site.link("edge"), redis_url, Habits(deadline=20.0, gamma=0.0))
    async with fleet:
        fleet.begin(*jobs(3, tokens=24, prompt=12, seed=5))
        await fleet.finish()
    assert all(written.complete and not written.unverified for written in fleet.written)
    assert sum(written.stats.rounds for written in fleet.written) >= 6

    # Junk, well allowed by Kafka, ends among the dead letters, which the verifier may write.
    async with AIOKafkaProducer(**client_options(site.link("edge"))) as producer:
        await producer.send_and_wait(CANDIDATES_TOPIC, b"junk", key=b"k" * 16)
    async with AIOKafkaConsumer(
        DEAD_LETTER_TOPIC, auto_offset_reset="earliest", **client_options(site.link("admin"))
    ) as consumer:
        letter = await asyncio.wait_for(consumer.getone(), 30)
    assert letter.value == b"junk"
    assert dict(letter.headers)["reason"] == b"not signed"
    assert await asyncio.to_thread(verifier.stop) == 0


async def test_nobody_may_do_more_than_is_listed(site: Site) -> None:
    async def write(user: str, topic: str) -> None:
        async with AIOKafkaProducer(**client_options(site.link(user))) as producer:
            await producer.send_and_wait(topic, b"x", partition=0)

    async def may_read(user: str, topic: str) -> bool:
        async with AIOKafkaConsumer(**client_options(site.link(user))) as consumer:
            if topic not in await consumer.topics():
                return False
            consumer.assign([TopicPartition(topic, 0)])
            try:
                await consumer.getmany(timeout_ms=1_000)
            except TopicAuthorizationFailedError:
                return False
            return True

    for user, topic in (("edge", DEAD_LETTER_TOPIC), ("verifier", CANDIDATES_TOPIC), ("operator", CANDIDATES_TOPIC)):
        with pytest.raises(TopicAuthorizationFailedError):
            await write(user, topic)
    for user in ("stranger", "policy"):
        for topic in (CANDIDATES_TOPIC, DEAD_LETTER_TOPIC):
            with pytest.raises(TopicAuthorizationFailedError):
                await write(user, topic)
    readers = [
        (user, topic)
        for user in ("edge", "verifier", "operator", "policy", "stranger")
        for topic in (CANDIDATES_TOPIC, DEAD_LETTER_TOPIC)
        if await may_read(user, topic)
    ]
    assert readers == [("verifier", CANDIDATES_TOPIC)]
    group = {**client_options(site.link("edge")), "group_id": VERIFIER_GROUP}
    consumer = AIOKafkaConsumer(CANDIDATES_TOPIC, **group)
    with pytest.raises(GroupAuthorizationFailedError):
        await consumer.start()
    await consumer.stop()
    bare = AIOKafkaProducer(bootstrap_servers=site.node.bootstrap)
    with pytest.raises(KafkaError):
        await bare.start()
    await bare.stop()


@pytest.mark.parametrize(
    ("user", "password", "expected"),
    [
        ("verifier", "wrong-secret", "refuses user 'verifier': wrong user or password (SLUICE_VERIFIER_KAFKA_USERNAME"),
        ("stranger", "", f"user 'stranger' may not see topic {CANDIDATES_TOPIC}: give it Read on topic {CANDIDATES_TOPIC}"),
        ("edge", "", f"user 'edge' may not read topic {CANDIDATES_TOPIC}: give it Read on topic"),
    ],
)
def test_a_verifier_that_kafka_refuses_says_why(
    site: Site, verifiers: Verifiers, user: str, password: str, expected: str
) -> None:
    verifier = verifiers.start(**site.knobs(user, password), LOG_LEVEL="debug")
    assert expected in reason(verifier)
    lines = [json.loads(line) for line in verifier.log.read_text().splitlines() if line.startswith("{")]
    told = [line for line in lines if line.get("link") == "kafka"]
    assert [line["event"] for line in told] == ["link down; trying again until it is back"]
    assert expected in told[0]["error"]
    assert verifier.stop() == 0


@pytest.mark.parametrize(
    ("user", "password", "expected"),
    [
        ("edge", "wrong-secret", "refuses user 'edge': wrong user or password (SLUICE_EDGE_KAFKA_USERNAME"),
        ("stranger", "", f"user 'stranger' may not see topic {CANDIDATES_TOPIC}: give it Write on topic {CANDIDATES_TOPIC}"),
        ("verifier", "", f"user 'verifier' may not write topic {CANDIDATES_TOPIC}: give it Write on topic"),
    ],
)
async def test_an_edge_that_kafka_refuses_says_why(
    site: Site, redis_url: str, log_lines: Lines, user: str, password: str, expected: str
) -> None:
    async with edge(site.link(user, password), redis_url) as client:
        assert expected in (await told(log_lines, "kafka cannot be used; answers go on locally"))["error"]
        await told(log_lines, "redis connected")
        with pytest.raises(LinkDown, match="user") as refused:
            await client._send(b"s" * 16, Cancel(session=b"s" * 16))
        assert expected in str(refused.value)
    events = [line["event"] for line in log_lines()]
    assert events.count("kafka cannot be used; answers go on locally") == 1


async def test_a_plain_login_shows_nothing(site: Site, redis_url: str, log_lines: Lines) -> None:
    """The mechanism whose requests carry the password as it is."""
    async with edge(replace(site.link("edge"), mechanism="PLAIN"), redis_url) as client:
        await told(log_lines, "kafka connected")
        await told(log_lines, "redis connected")
        assert await client._send(b"s" * 16, Cancel(session=b"s" * 16))


def test_an_edge_worker_s_process_shows_no_secret(site: Site, redis_url: str, tmp_path: Path) -> None:
    knobs = site.knobs("edge", "wrong-secret") | {"REDIS_URL": redis_url, "PORT": "0", "LOG_LEVEL": "debug", "THREADS": "1"}
    environment = dict(os.environ) | {f"SLUICE_EDGE_{name}": value for name, value in knobs.items()}
    log = tmp_path / "edge.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.edge_worker"], env=environment, stderr=stream, stdout=stream
        )
    try:
        end = time.monotonic() + 120
        while "wrong user or password (SLUICE_EDGE_KAFKA_USERNAME" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    said = log.read_text()
    assert "Traceback" not in said
    assert not shown(said)


async def test_a_right_that_is_taken_away_and_given_back(site: Site, redis_url: str, log_lines: Lines) -> None:
    right = ["--allow-principal", "User:edge", "--operation", "Write", "--topic", CANDIDATES_TOPIC]
    async with edge(site.link("edge"), redis_url) as client:
        await told(log_lines, "kafka connected")
        await told(log_lines, "redis connected")
        assert await client._send(b"s" * 16, Cancel(session=b"s" * 16))
        await asyncio.to_thread(site.node.admin, "acls", "--remove", "--force", *right)
        try:
            with pytest.raises(LinkDown):
                await client._send(b"s" * 16, Cancel(session=b"s" * 16))
            line = await told(log_lines, "kafka cannot be used; answers go on locally")
            assert "give it Write on topic" in line["error"]
        finally:
            await asyncio.to_thread(site.node.admin, "acls", "--add", *right)
        async with asyncio.timeout(15):  # it connects again by itself
            while not client.connected:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert await client._send(b"s" * 16, Cancel(session=b"s" * 16))


async def test_a_missing_topic_until_it_is_made(
    new_kafka: NewKafka, redis_url: str, verifiers: Verifiers, log_lines: Lines
) -> None:
    node = new_kafka()
    verifier = verifiers.start(KAFKA_BOOTSTRAP=node.bootstrap)
    expected = f"topic {CANDIDATES_TOPIC} does not exist: create it with `sluice topics create`"
    more = " (1 more: see `sluice doctor`)"  # the other topic
    async with edge(node.bootstrap, redis_url):
        assert (await told(log_lines, "kafka cannot be used; answers go on locally"))["error"] == expected
        assert await asyncio.to_thread(reason, verifier) == expected + more
        made = await asyncio.to_thread(sluice, "topics", "create", "--kafka", node.bootstrap)
        assert made.returncode == 0, made.stderr
        await told(log_lines, "kafka connected")
        await asyncio.to_thread(verifier.wait_ready, True, 90.0)
