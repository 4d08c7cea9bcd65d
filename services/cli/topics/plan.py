"""What the topics shall be like, and what is different about those that are there. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.cli.topics.settings import TopicsSettings
from services.common.keys import CANDIDATES_TOPIC, DEAD_LETTER_TOPIC

_SEGMENT_PARTS = 4  # a partition's bytes are kept in this many files at least: one is deleted at a time
_SAFE_REPLICATION = 3
_DEAD_LETTER_BYTES = 64 * 1024  # verifiers cut letters to 16 KiB and send several in one batch
_PARTITIONS, _REPLICATION = "partitions", "replication"


@dataclass(frozen=True)
class Topic:
    """``config``: Kafka's own names and values. Of an existing topic it holds all settings in force."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """One property that is not as wanted; ``obstacle`` says why `--alter` cannot change it, empty where it can."""

    topic: str
    what: str
    wanted: str
    found: str
    obstacle: str = ""


def wanted(settings: TopicsSettings, brokers: int) -> list[Topic]:
    """The topics for a cluster of so many brokers."""
    copies = settings.replication or min(_SAFE_REPLICATION, brokers)
    every = {
        "cleanup.policy": "delete",
        "message.timestamp.type": "LogAppendTime",  # deadlines count from here: never by the clock of another machine
        "max.message.bytes": str(settings.max_message_bytes),
        **_in_sync(copies),
    }
    candidates = {
        **every,
        "retention.ms": str(settings.retention_seconds * 1000),
        "segment.ms": str(max(60, settings.retention_seconds // _SEGMENT_PARTS) * 1000),
        **_bytes(settings.partition_bytes),
    }
    dead_letters = {
        **every,
        "max.message.bytes": str(_DEAD_LETTER_BYTES),
        "retention.ms": str(settings.dead_letter_retention_hours * 3_600_000),
        "segment.ms": str(settings.dead_letter_segment_hours * 3_600_000),
        **_bytes(settings.dead_letter_partition_bytes),
    }
    return [
        Topic(CANDIDATES_TOPIC, settings.partitions, copies, candidates),
        Topic(DEAD_LETTER_TOPIC, settings.dead_letter_partitions, copies, dead_letters),
    ]


def differences(want: Topic, found: Topic) -> list[Difference]:
    """What is not as wanted about a topic that is there."""
    result = []
    if want.partitions != found.partitions:
        obstacle = ""
        if found.partitions > want.partitions:
            obstacle = "Kafka cannot take partitions away: want more of them, or delete the topic with Kafka's own tools first"
        result.append(Difference(want.name, _PARTITIONS, str(want.partitions), str(found.partitions), obstacle))
    if want.replication != found.replication:
        obstacle = "move the copies with Kafka's own kafka-reassign-partitions"
        result.append(Difference(want.name, _REPLICATION, str(want.replication), str(found.replication), obstacle))
    for key, value in {**want.config, **_in_sync(found.replication)}.items():
        if found.config.get(key) != value:
            result.append(Difference(want.name, key, value, found.config.get(key, "not set")))
    return result


def config_changes(found: list[Difference]) -> dict[str, str]:
    """The settings to be changed, by Kafka's names."""
    return {d.what: d.wanted for d in found if d.what not in (_PARTITIONS, _REPLICATION)}


def more_partitions(found: list[Difference]) -> int:
    """The number of partitions to grow to; 0: leave it."""
    return next((int(d.wanted) for d in found if d.what == _PARTITIONS and not d.obstacle), 0)


def _in_sync(copies: int) -> dict[str, str]:
    """Copies that must have a message before it counts as written: one may be away. More than exist would stop writing."""
    return {"min.insync.replicas": str(max(1, copies - 1))}


def _bytes(partition_bytes: int) -> dict[str, str]:
    return {"retention.bytes": str(partition_bytes), "segment.bytes": str(partition_bytes // _SEGMENT_PARTS)}
