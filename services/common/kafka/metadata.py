"""Kafka's Metadata request in the version that also says what the caller may do with a topic; aiokafka's own stop before it."""

from __future__ import annotations

from typing import ClassVar

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

_API_KEY = 3
_API_VERSION = 8


class MetadataResponse_v8(Response):  # type: ignore[misc]
    """``topics``: error, name, whether internal, partitions, and a bit for each allowed operation (least integer: not told)."""

    API_KEY = _API_KEY
    API_VERSION = _API_VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(("node_id", Int32), ("host", String("utf-8")), ("port", Int32), ("rack", String("utf-8")))),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String("utf-8")),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("cluster_authorized_operations", Int32),
    )


class MetadataRequest_v8(RequestStruct):  # type: ignore[misc]
    API_KEY = _API_KEY
    API_VERSION = _API_VERSION
    RESPONSE_TYPE = MetadataResponse_v8
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class MetadataRequest(Request[MetadataRequest_v8]):  # type: ignore[misc]
    """About ``topics``; ``create``: let the broker make those that it has not."""

    API_KEY: ClassVar[int] = _API_KEY
    _CLASSES = (MetadataRequest_v8,)

    def __init__(self, topics: list[str], create: bool = False) -> None:
        self._topics = topics
        self._create = create

    def build(self, request_struct_class: type[MetadataRequest_v8]) -> MetadataRequest_v8:
        return request_struct_class(self._topics, self._create, False, True)
