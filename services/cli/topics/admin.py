"""Topics of a Kafka cluster: read, made, changed. Nothing is made by asking."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    IncompatibleBrokerVersion,
    InvalidReplicationFactorError,
    KafkaError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.admin import CreatePartitionsRequest, CreateTopicsRequest, DescribeConfigsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int8, Int16, Int32, Schema, String

from services.cli.errors import CommandError
from services.cli.topics.plan import Topic
from services.common.kafka.link import KafkaLink
from services.common.kafka.metadata import MetadataRequest
from services.common.kafka.reach import Trouble, close, connect_any

REQUEST_SECONDS = 30.0
_TOPIC = 2  # Kafka's number of this kind of resource
_SET = 0  # Kafka's number of this change to a setting
_DENIED = (TopicAuthorizationFailedError.errno, ClusterAuthorizationFailedError.errno)


class AlterResponse(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 44
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "resources",
            Array(("error_code", Int16), ("error_message", String("utf-8")), ("kind", Int8), ("name", String("utf-8"))),
        ),
    )


class AlterRequestV0(RequestStruct):  # type: ignore[misc]
    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = AlterResponse
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("kind", Int8),
                ("name", String("utf-8")),
                ("configs", Array(("name", String("utf-8")), ("change", Int8), ("value", String("utf-8")))),
            ),
        ),
        ("validate_only", Boolean),
    )


class AlterRequest(Request[AlterRequestV0]):  # type: ignore[misc]
    """Kafka's IncrementalAlterConfigs, which leaves other settings alone; aiokafka has only the one that does not."""

    API_KEY: ClassVar[int] = 44
    _CLASSES = (AlterRequestV0,)

    def __init__(self, topic: str, config: Mapping[str, str]) -> None:
        self._resources = [(_TOPIC, topic, [(name, _SET, value) for name, value in config.items()])]

    def build(self, request_struct_class: type[AlterRequestV0]) -> AlterRequestV0:
        return request_struct_class(self._resources, False)


class Admin:
    """``CommandError`` from any call says what is refused, and why."""

    def __init__(self, link: KafkaLink, connection: AIOKafkaConnection) -> None:
        self._link = link
        self._connection = connection

    async def brokers(self) -> int:
        """How many there are."""
        return len((await self._send(MetadataRequest([]))).brokers)

    async def find(self, names: list[str]) -> dict[str, Topic]:
        """Those of ``names`` that exist, with all settings in force."""
        answer = await self._send(MetadataRequest(names))
        found = {}
        for code, name, _, partitions, _ in answer.topics:
            if code == UnknownTopicOrPartitionError.errno:
                continue
            self._require(code, f"see topic {name}", f"Describe on topic {name}")
            copies = min((len(partition[4]) for partition in partitions), default=0)
            found[name] = Topic(name, len(partitions), copies, await self._config(name))
        return found

    async def create(self, topic: Topic) -> None:
        request: Any = (topic.name, topic.partitions, topic.replication, [], list(topic.config.items()))
        answer = await self._send(CreateTopicsRequest([request], int(REQUEST_SECONDS * 1000), False))
        for name, code, message in answer.topic_errors:
            if code == InvalidReplicationFactorError.errno:
                raise CommandError(
                    f"topic {name} cannot have {topic.replication} copies: {message}; start more brokers, or say --replication"
                )
            self._require(code, f"create topic {name}", f"Create on topic {name}", message)

    async def alter(self, topic: str, config: Mapping[str, str]) -> None:
        answer = await self._send(AlterRequest(topic, config))
        for code, message, _, name in answer.resources:
            self._require(code, f"change the settings of topic {name}", f"AlterConfigs on topic {name}", message)

    async def grow(self, topic: str, partitions: int) -> None:
        request = CreatePartitionsRequest([(topic, (partitions, None))], int(REQUEST_SECONDS * 1000), False)
        for name, code, message in (await self._send(request)).topic_errors:
            self._require(code, f"add partitions to topic {name}", f"Alter on topic {name}", message)

    async def _config(self, topic: str) -> dict[str, str]:
        answer = await self._send(DescribeConfigsRequest([(_TOPIC, topic, None)]))
        config = {}
        for code, message, _, name, entries in answer.resources:
            self._require(code, f"read the settings of topic {name}", f"DescribeConfigs on topic {name}", message)
            config.update({entry[0]: entry[1] for entry in entries})
        return config

    async def _send(self, request: Any) -> Any:
        try:
            return await self._connection.send(request)
        except IncompatibleBrokerVersion as error:
            raise CommandError("this broker cannot manage topics; the embedded one makes them itself") from error
        except (KafkaError, OSError, TimeoutError, NotImplementedError) as error:
            raise CommandError(f"Kafka gave no answer to {type(request).__name__}: {type(error).__name__}: {error}") from error

    def _require(self, code: int, action: str, right: str, message: str | None = None) -> None:
        if code in _DENIED:
            user = f"user {self._link.username!r}" if self._link.login else "this client"
            raise CommandError(f"{user} may not {action}: give it {right} (`sluice topics acls` lists all)")
        if code:
            raise CommandError(f"Kafka refused to {action}: {message or for_code(code).__name__}")


@asynccontextmanager
async def admin(link: KafkaLink) -> AsyncIterator[Admin]:
    """Raises ``CommandError`` that says why the cluster cannot be reached."""
    try:
        connection = await connect_any(link, REQUEST_SECONDS)
    except Trouble as trouble:
        raise CommandError(str(trouble)) from trouble
    try:
        yield Admin(link, connection)
    finally:
        await close(connection)
