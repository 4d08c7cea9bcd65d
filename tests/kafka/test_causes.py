"""The cause of a failure is named: by the check itself, for every way in which a link to Kafka can be wrong."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError

from services.common.kafka.check import EDGE_NEEDS, Needs, check, explain, verifier_needs
from services.common.kafka.link import KafkaLink
from services.common.keys import CANDIDATES_TOPIC, VERIFIER_GROUP
from tests.cluster.fixtures import Cluster, NewKafka
from tests.kafka.site import Site

PORT = "127.0.0.1:{}"


async def _cause(link: KafkaLink, needs: Needs = EDGE_NEEDS) -> str:
    said = await explain(link, needs, KafkaConnectionError("Unable to bootstrap"))
    assert "\n" not in said
    assert "secret" not in said
    return said


async def test_all_is_well_for_each_user_with_the_listed_rights(site: Site) -> None:
    for user, needs in (("edge", EDGE_NEEDS), ("verifier", verifier_needs(VERIFIER_GROUP))):
        for link in (site.link(user), replace(site.link(user), mechanism="PLAIN")):
            found = await check(link, needs)
            assert [finding.problem for finding in found] == [""] * len(found)
        assert await explain(site.link(user), needs) == ""


async def test_where_all_is_well_the_error_itself_is_told(site: Site) -> None:
    assert await _cause(site.link("edge")) == "KafkaConnectionError: KafkaConnectionError: Unable to bootstrap"


async def test_the_check_writes_nothing(site: Site) -> None:
    before = await _ends(site)
    await check(site.link("edge"), EDGE_NEEDS)
    assert await _ends(site) == before


async def test_names_ports_and_silence() -> None:
    assert "the name 'no-such-host.invalid' does not resolve" in await _cause(KafkaLink("no-such-host.invalid:9092"))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    assert f"connection refused by 127.0.0.1:{port}" in await _cause(KafkaLink(f"127.0.0.1:{port}"))
    both = await _cause(KafkaLink(f"no-such-host.invalid:9092,127.0.0.1:{port}"))
    assert "does not resolve" in both
    assert "connection refused" in both


async def test_somebody_else_listens() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async with _server(silent) as address:
        assert "does not answer as a Kafka broker" in await _cause(KafkaLink(address))
    async with _server(hangs_up) as address:
        assert "is it a Kafka broker?" in await _cause(KafkaLink(address))


async def test_a_wrong_password_and_an_unknown_user(site: Site) -> None:
    for link in (site.link("edge", "wrong-secret"), site.link("nobody")):
        said = await _cause(link)
        assert f"refuses user {link.username!r}: wrong user or password" in said
        assert "SLUICE_EDGE_KAFKA_PASSWORD" in said


async def test_a_mechanism_that_is_not_enabled(site: Site) -> None:
    said = await _cause(replace(site.link("edge"), mechanism="SCRAM-SHA-256"))
    assert "takes no login by SCRAM-SHA-256, but by " in said
    assert "SCRAM-SHA-512" in said.partition("but by ")[2]
    assert "set SLUICE_EDGE_KAFKA_MECHANISM" in said


async def test_a_certificate_that_is_not_trusted(site: Site, tmp_path: Path) -> None:
    assert "not trusted" in await _cause(replace(site.link("edge"), ca_file=""))
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    said = await _cause(replace(site.link("edge"), ca_file=str(tmp_path / "other.pem")))
    assert "not trusted" in said
    assert "set SLUICE_EDGE_KAFKA_CA_FILE" in said


async def test_a_certificate_for_another_name(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("broker.example").configure_cert(context)
    async with _server(lambda reader, writer: None, context) as address:
        said = await _cause(KafkaLink(address, "ssl", ca_file=str(tmp_path / "ca.pem")))
    assert "is for another name" in said
    assert "127.0.0.1" in said


async def test_a_client_certificate_is_asked_for(new_kafka: NewKafka) -> None:
    node = new_kafka(secure=True, listener_name_client_ssl_client_auth="required")
    link = Site(node).link("admin")
    assert "asks for a client certificate: set SLUICE_EDGE_KAFKA_CERT_FILE" in await _cause(link)
    assert await explain(replace(link, cert_file=str(node.client_cert_file)), Needs()) == ""


async def test_plain_text_to_a_tls_port_and_the_other_way_round(site: Site) -> None:
    good, plain = site.link("edge"), site.node.plain_bootstrap
    security = "SLUICE_EDGE_KAFKA_SECURITY to "
    for link, expected in (
        (KafkaLink(good.bootstrap, prefix=good.prefix), f"speaks TLS: set {security}ssl"),
        (replace(good, security="sasl_plaintext"), f"speaks TLS: set {security}sasl_ssl"),
        (replace(good, security="ssl"), f"asks for a login: set {security}sasl_ssl"),
        (replace(good, bootstrap=plain), f"speaks plain text, not TLS: set {security}sasl_plaintext"),
        (replace(good, bootstrap=plain, security="ssl"), f"speaks plain text, not TLS: set {security}plaintext"),
        (replace(good, bootstrap=plain, security="sasl_plaintext"), f"takes no login: set {security}plaintext"),
    ):
        assert expected in await _cause(link), link


async def test_a_broker_that_cannot_be_reached_where_it_says(new_kafka: NewKafka) -> None:
    """The usual trap of advertised.listeners: the first connection works, all others do not."""
    node = new_kafka(advertised_listeners="CLIENT://no-such-host.invalid:9092,INTERNAL://127.0.0.1:1")
    said = await _cause(KafkaLink(node.bootstrap))
    assert "broker 1 says to reach it at no-such-host.invalid:9092 (advertised.listeners), but the name" in said


async def test_a_missing_topic_is_named_and_not_made(kafka: Cluster) -> None:
    link = KafkaLink(kafka.bootstrap)
    for _ in range(2):
        said = await _cause(link, Needs(write=("sluice.nowhere",)))
        assert said == "topic sluice.nowhere does not exist: create it with `sluice topics create`"


@pytest.mark.parametrize(
    ("user", "needs", "expected"),
    [
        ("stranger", EDGE_NEEDS, f"user 'stranger' may not see topic {CANDIDATES_TOPIC}: give it Write on topic"),
        ("edge", Needs(read=(CANDIDATES_TOPIC,)), f"user 'edge' may not read topic {CANDIDATES_TOPIC}: give it Read on topic"),
        ("verifier", EDGE_NEEDS, f"user 'verifier' may not write topic {CANDIDATES_TOPIC}: give it Write on topic"),
        ("verifier", Needs(group="others"), "user 'verifier' may not join group others: give it Read on group others"),
        ("stranger", Needs(group=VERIFIER_GROUP), "user 'stranger' may not join group"),
    ],
)
async def test_a_missing_right_is_named(site: Site, user: str, needs: Needs, expected: str) -> None:
    said = await _cause(site.link(user), needs)
    assert expected in said
    assert "`sluice topics acls` lists all" in said


async def _ends(site: Site) -> dict[TopicPartition, int]:
    async with AIOKafkaConsumer(bootstrap_servers=site.node.plain_bootstrap) as consumer:
        ends: dict[TopicPartition, int] = await consumer.end_offsets([TopicPartition(CANDIDATES_TOPIC, p) for p in range(4)])
        return ends


@asynccontextmanager
async def _server(serve: object, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)  # type: ignore[arg-type]
    try:
        yield PORT.format(server.sockets[0].getsockname()[1])
    finally:
        server.close()
