"""The least rights in Kafka, in one place: made from what the services' own check asks for."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from services.common.kafka.check import EDGE_NEEDS, Needs, verifier_needs
from services.common.keys import CANDIDATES_TOPIC, DEAD_LETTER_TOPIC

_OPERATOR = ("Create", "Describe", "DescribeConfigs", "Alter", "AlterConfigs")


@dataclass(frozen=True)
class Right:
    """``role``: `edge`, `verifier` or `operator` (who runs `sluice topics`); ``resource``: `topic` or `group`."""

    role: str
    user: str
    resource: str
    name: str
    operation: str

    def row(self) -> dict[str, str]:
        return asdict(self)


def rights(edge: str, verifier: str, operator: str, group: str) -> list[Right]:
    """For the users of these names, and verifiers of the consumer group ``group``; everything else stays denied."""
    result = [*_of("edge", edge, EDGE_NEEDS), *_of("verifier", verifier, verifier_needs(group))]
    for topic in (CANDIDATES_TOPIC, DEAD_LETTER_TOPIC):
        result += [Right("operator", operator, "topic", topic, operation) for operation in _OPERATOR]
    return result


def commands(listed: list[Right]) -> list[list[str]]:
    """Arguments for Kafka's own ``kafka-acls.sh --bootstrap-server HOST:PORT ...``, few calls for all rights."""
    operations: dict[tuple[str, str, str], list[str]] = {}
    for right in listed:
        operations.setdefault((right.user, right.resource, right.name), []).append(right.operation)
    names: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (user, resource, name), wanted in operations.items():
        names.setdefault((user, resource, tuple(wanted)), []).append(name)
    return [_command(user, resource, wanted, on) for (user, resource, wanted), on in names.items()]


def _command(user: str, resource: str, operations: tuple[str, ...], names: list[str]) -> list[str]:
    arguments = ["--add", "--allow-principal", f"User:{user}"]
    arguments += [part for operation in operations for part in ("--operation", operation)]
    return arguments + [part for name in names for part in (f"--{resource}", name)]


def _of(role: str, user: str, needs: Needs) -> list[Right]:
    return [Right(role, user, resource, name, operation) for resource, name, operation in needs.rights]
