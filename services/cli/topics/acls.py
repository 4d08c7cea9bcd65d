"""The least rights in Kafka, in one place: made from what the services' own check asks for."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from services.common.kafka_check import EDGE_NEEDS, Needs, verifier_needs
from services.common.keys import CANDIDATES_TOPIC, DEAD_LETTER_TOPIC

_OPERATOR = ("Create", "Describe", "DescribeConfigs", "Alter", "AlterConfigs")


@dataclass(frozen=True)
class Right:
    """``role``: `edge`, `verifier` or `operator` (who runs `sluice topics create`); ``resource``: `topic` or `group`."""

    role: str
    user: str
    resource: str
    name: str
    operation: str

    def arguments(self) -> list[str]:
        """For Kafka's own tool: ``kafka-acls.sh --bootstrap-server ... ARGUMENTS``."""
        who = ["--add", "--allow-principal", f"User:{self.user}", "--operation", self.operation]
        return [*who, f"--{self.resource}", self.name, "--resource-pattern-type", "literal"]

    def row(self) -> dict[str, object]:
        return {**asdict(self), "arguments": self.arguments()}


def rights(edge: str, verifier: str, operator: str, group: str) -> list[Right]:
    """For the users of these names, and verifiers of the consumer group ``group``; everything else stays denied."""
    result = [*_of("edge", edge, EDGE_NEEDS), *_of("verifier", verifier, verifier_needs(group))]
    for topic in (CANDIDATES_TOPIC, DEAD_LETTER_TOPIC):
        result += [Right("operator", operator, "topic", topic, operation) for operation in _OPERATOR]
    return result


def _of(role: str, user: str, needs: Needs) -> list[Right]:
    return [Right(role, user, resource, name, operation) for resource, name, operation in needs.rights]
