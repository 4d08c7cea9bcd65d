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
from aiokafka.protocol.group import HeartbeatRequest

from services.common.kafka.link import KafkaLink
from services.common.kafka.metadata import MetadataRequest
from services.common.kafka.reach import Trouble, close, connect, connect_any
from services.common.keys import CANDIDATES_TOPIC, DEAD_LETTER_TOPIC

_UNKNOWN_TOPIC = UnknownTopicOrPartitionError.errno
_TOPIC_DENIED = TopicAuthorizationFailedError.errno
_GROUP_DENIED = GroupAuthorizationFailedError.errno
_READ, _WRITE = 3, 4  # Kafka's numbers of the operations
_OPERATIONS_UNKNOWN = -(2**31)


@dataclass(frozen=True)
class _Topic:
    """``operations``: a bit for each that is allowed."""

    error: int
    operations: int


@dataclass(frozen=True)
class Needs:
    """What a client wants of Kafka: topics to read and to write, and a consumer group to join."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    group: str = ""

    @property
    def rights(self) -> list[tuple[str, str, str]]:
        """The least that an operator has to allow: kind of resource, its name, operation (Kafka's names)."""
        return [
            *(("topic", topic, "Read") for topic in self.read),
            *(("topic", topic, "Write") for topic in self.write),
            *([("group", self.group, "Read")] if self.group else []),
        ]

    @property
    def topics(self) -> list[str]:
        return list(dict.fromkeys(self.read + self.write))


@dataclass(frozen=True)
class Finding:
    """One thing that was tried; ``problem`` is empty if it works, else it says what is wrong and what to do.

    A problem that is not ``blocking`` leaves enough to work with: one broker of several is away.
    """

    what: str
    problem: str = ""
    blocking: bool = True


EDGE_NEEDS = Needs(write=(CANDIDATES_TOPIC,))


def verifier_needs(group: str) -> Needs:
    return Needs(read=(CANDIDATES_TOPIC,), write=(DEAD_LETTER_TOPIC,), group=group)


async def explain(link: KafkaLink, needs: Needs, error: BaseException | None = None) -> str:
    """One line: why a client with ``needs`` does not work. Where all is well now, what ``error`` says.

    Without an ``error``: what stands in the way of starting; empty if nothing does.
    """
    problems = [f.problem for f in await check(link, needs) if f.problem and (f.blocking or error is not None)]
    if problems:
        return problems[0] + (f" ({len(problems) - 1} more: see `sluice doctor`)" if len(problems) > 1 else "")
    return " ".join(f"{type(error).__name__}: {error}".split())[:300] if error is not None else ""


async def check(link: KafkaLink, needs: Needs) -> list[Finding]:
    """Each step in order; ends early where a failed one makes the others pointless."""
    where = ", ".join(f"{host}:{port}" for host, port in link.addresses)
    try:
        connection = await connect_any(link)
    except Trouble as trouble:
        return [Finding(f"reach {where}", str(trouble))]
    cluster = _Cluster(link, connection)
    try:
        return [Finding(f"reach {where}"), *await cluster.findings(needs)]
    finally:
        await cluster.close()


class _Cluster:
    """Connections to the brokers of one cluster, made as they are needed."""

    def __init__(self, link: KafkaLink, first: AIOKafkaConnection) -> None:
        self._link = link
        self._first = first
        self._addresses: dict[int, tuple[str, int]] = {}
        self._open: dict[int, AIOKafkaConnection] = {}
        self._topics: dict[str, _Topic] = {}

    async def close(self) -> None:
        for connection in (self._first, *self._open.values()):
            await close(connection)

    async def findings(self, needs: Needs) -> list[Finding]:
        try:
            await self._read_metadata(needs.topics)
            found = [await self._brokers()]
            if found[0].problem and found[0].blocking:
                return found
            for topic in needs.topics:
                found += self._topic_findings(topic, needs)
            if needs.group and not self._link.embedded:
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
        answer = await self._first.send(MetadataRequest(topics, create=self._link.embedded))
        for node, host, port, _ in answer.brokers:
            self._addresses[node] = (host, port)
        for code, name, _, _, operations in answer.topics:
            self._topics[name] = _Topic(code, operations)

    async def _brokers(self) -> Finding:
        troubles = []
        for node in self._addresses:
            try:
                await self._node(node)
            except Trouble as trouble:
                troubles.append(str(trouble))
        what = "reach the brokers at the addresses that they advertise"
        return Finding(what, "; ".join(troubles), blocking=not self._open)

    async def _node(self, node: int) -> AIOKafkaConnection:
        if node not in self._open:
            host, port = self._addresses[node]
            try:
                self._open[node] = await connect(self._link, host, port)
            except Trouble as trouble:
                said = f"broker {node} says to reach it at {host}:{port} (advertised.listeners)"
                raise Trouble(f"{said}, but {trouble}") from trouble
        return self._open[node]

    def _topic_problem(self, topic: str, needs: Needs) -> str:
        code = self._topics[topic].error if topic in self._topics else _UNKNOWN_TOPIC
        if code == _UNKNOWN_TOPIC:
            return f"topic {topic} does not exist: create it with `sluice topics create`"
        if code == _TOPIC_DENIED:
            operations = [name for name, topics in (("Read", needs.read), ("Write", needs.write)) if topic in topics]
            rights = f"{' and '.join(operations)} on topic {topic}"
            return self._denied(f"see topic {topic}", rights, "or the topic does not exist")
        return ""

    def _topic_findings(self, topic: str, needs: Needs) -> list[Finding]:
        found = [Finding(f"topic {topic}", self._topic_problem(topic, needs))]
        if not found[0].problem:
            found += [self._right(topic, _READ, "read", "Read")] if topic in needs.read else []
            found += [self._right(topic, _WRITE, "write", "Write")] if topic in needs.write else []
        return found

    def _right(self, topic: str, bit: int, action: str, operation: str) -> Finding:
        allowed = self._topics[topic].operations
        denied = allowed != _OPERATIONS_UNKNOWN and not allowed >> bit & 1
        problem = self._denied(f"{action} topic {topic}", f"{operation} on topic {topic}") if denied else ""
        return Finding(f"{action} topic {topic}", problem)

    async def _may_join(self, group: str) -> str:
        refusal = self._denied(f"join group {group}", f"Read on group {group}")
        found = await self._first.send(FindCoordinatorRequest(group, 0))
        if found.error_code == _GROUP_DENIED:
            return refusal
        if found.error_code:
            return ""  # the group's coordinator is still being chosen: no question of rights
        answer = await (await self._node(found.coordinator_id)).send(HeartbeatRequest(group, 0, "doctor"))
        return refusal if answer.error_code == _GROUP_DENIED else ""

    def _denied(self, action: str, right: str, otherwise: str = "") -> str:
        user = f"user {self._link.username!r}" if self._link.login else "this client"
        otherwise = f", {otherwise}" if otherwise else ""
        return f"{user} may not {action}: give it {right} (`sluice topics acls` lists all){otherwise}"
