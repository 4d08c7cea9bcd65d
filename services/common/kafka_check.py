"""Why a Kafka client cannot do its work: name, port, TLS, certificate, login, topic or right. Nothing is written.

aiokafka says only "Unable to bootstrap", waits for a topic that does not exist, and logs what it is refused. Here each step is
taken by itself, over aiokafka's own connections, so that the first one that fails is the cause.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.produce import ProduceRequest

from services.common.kafka import KafkaLink
from services.common.kafka_reach import Trouble, connect

_TIMEOUT_MS = 5_000
_UNKNOWN_TOPIC = UnknownTopicOrPartitionError.errno
_TOPIC_DENIED = TopicAuthorizationFailedError.errno
_GROUP_DENIED = GroupAuthorizationFailedError.errno


@dataclass(frozen=True)
class Needs:
    """What a client wants of Kafka: topics to read and to write, and a consumer group to join."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    group: str = ""

    @property
    def topics(self) -> list[str]:
        return list(dict.fromkeys(self.read + self.write))


@dataclass(frozen=True)
class Finding:
    """One thing that was tried; ``problem`` is empty if it works, else it says what is wrong and what to do."""

    what: str
    problem: str = ""


async def explain(link: KafkaLink, needs: Needs, error: BaseException | None = None) -> str:
    """One line: why a client with ``needs`` does not work. Where all is well now, what ``error`` says; empty without one."""
    problem = next((finding.problem for finding in await check(link, needs) if finding.problem), "")
    if problem or error is None:
        return problem
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


async def check(link: KafkaLink, needs: Needs) -> list[Finding]:
    """Each step in order; ends early where a failed one makes the others pointless."""
    where = ", ".join(f"{host}:{port}" for host, port in link.addresses)
    try:
        connection = await _any(link)
    except Trouble as trouble:
        return [Finding(f"reach {where}", str(trouble))]
    cluster = _Cluster(link, connection)
    try:
        return [Finding(f"reach {where}"), *await cluster.findings(needs)]
    finally:
        cluster.close()


async def _any(link: KafkaLink) -> AIOKafkaConnection:
    """The first broker that answers. Raises ``Trouble`` with the cause of each where none does."""
    troubles: dict[str, None] = {}
    for host, port in link.addresses:
        try:
            return await connect(link, host, port)
        except Trouble as trouble:
            troubles[str(trouble)] = None
    raise Trouble("; ".join(troubles))


class _Cluster:
    """Connections to the brokers of one cluster, made as they are needed."""

    def __init__(self, link: KafkaLink, first: AIOKafkaConnection) -> None:
        self._link = link
        self._first = first
        self._addresses: dict[int, tuple[str, int]] = {}
        self._open: dict[int, AIOKafkaConnection] = {}
        self._leaders: dict[str, int] = {}
        self._topics: dict[str, int] = {}

    def close(self) -> None:
        for connection in (self._first, *self._open.values()):
            connection.close()

    async def findings(self, needs: Needs) -> list[Finding]:
        try:
            await self._read_metadata(needs.topics)
            found = [await self._try("reach the brokers at the addresses that they advertise", self._all_brokers())]
            if found[0].problem:
                return found
            found += [Finding(f"topic {topic}", self._topic_problem(topic)) for topic in needs.topics]
            there = {topic for topic in needs.topics if not self._topic_problem(topic)}
            if self._link.embedded:  # it has no rights to check, and half of these requests
                return found
            found += [await self._try(f"read {t}", self._may_read(t)) for t in needs.read if t in there]
            found += [await self._try(f"write {t}", self._may_write(t)) for t in needs.write if t in there]
            if needs.group:
                found.append(await self._try(f"join group {needs.group}", self._may_join(needs.group)))
        except (KafkaError, OSError, TimeoutError) as error:
            return [Finding("answers of the cluster", f"the cluster gives no answer: {type(error).__name__}: {error}")]
        return found

    @staticmethod
    async def _try(what: str, attempt: Awaitable[str]) -> Finding:
        try:
            return Finding(what, await attempt)
        except Trouble as trouble:
            return Finding(what, str(trouble))

    async def _read_metadata(self, topics: list[str]) -> None:
        answer = await self._first.send(MetadataRequest(topics, allow_auto_topic_creation=self._link.embedded))
        for broker in answer.brokers:
            self._addresses[broker[0]] = (broker[1], broker[2])
        for topic in answer.topics:
            partitions = topic[-1]
            self._topics[topic[1]] = topic[0]
            if partitions:
                self._leaders[topic[1]] = partitions[0][2]

    async def _all_brokers(self) -> str:
        for node in self._addresses:
            await self._node(node)
        return ""

    async def _node(self, node: int) -> AIOKafkaConnection:
        if node not in self._open:
            host, port = self._addresses[node]
            try:
                self._open[node] = await connect(self._link, host, port)
            except Trouble as trouble:
                said = f"broker {node} says to reach it at {host}:{port} (advertised.listeners)"
                raise Trouble(f"{said}, but {trouble}") from trouble
        return self._open[node]

    def _topic_problem(self, topic: str) -> str:
        code = self._topics.get(topic, _UNKNOWN_TOPIC)
        if code == _UNKNOWN_TOPIC:
            return f"topic {topic} does not exist: create it with `sluice topics create`"
        if code == _TOPIC_DENIED:
            return self._denied(f"see topic {topic}", f"Describe on topic {topic}", "or the topic does not exist")
        return ""

    async def _may_read(self, topic: str) -> str:
        request = FetchRequest(0, 0, 1, 0, [(topic, [(0, -1, 1)])])  # from an offset that is nowhere: no data comes back
        answer = await (await self._leader(topic)).send(request)
        codes = [part[1] for entry in answer.topics for part in entry[1]]
        return self._denied(f"read topic {topic}", f"Read on topic {topic}") if _TOPIC_DENIED in codes else ""

    async def _may_write(self, topic: str) -> str:
        request = ProduceRequest(None, 1, _TIMEOUT_MS, [(topic, [(0, b"")])])  # no record: always refused
        answer = await (await self._leader(topic)).send(request)
        codes = [part[1] for entry in answer.topics for part in entry[1]]
        return self._denied(f"write topic {topic}", f"Write on topic {topic}") if _TOPIC_DENIED in codes else ""

    async def _may_join(self, group: str) -> str:
        refusal = self._denied(f"join group {group}", f"Read on group {group}")
        found = await self._first.send(FindCoordinatorRequest(group, 0))
        if found.error_code == _GROUP_DENIED:
            return refusal
        if found.error_code:
            return ""  # the group's coordinator is still being chosen: no question of rights
        answer = await (await self._node(found.coordinator_id)).send(HeartbeatRequest(group, 0, "doctor"))
        return refusal if answer.error_code == _GROUP_DENIED else ""

    async def _leader(self, topic: str) -> AIOKafkaConnection:
        return await self._node(self._leaders[topic])

    def _denied(self, action: str, right: str, otherwise: str = "") -> str:
        user = f"user {self._link.username!r}" if self._link.login else "this client"
        otherwise = f", {otherwise}" if otherwise else ""
        return f"{user} may not {action}: give it {right} (`sluice topics acls` lists all){otherwise}"
