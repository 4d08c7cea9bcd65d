"""A secured Apache Kafka as docs/kafka.md sets it up, and what each user's processes get to know of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass

from pydantic import SecretStr

from services.common.kafka.link import KafkaLink
from tests.cluster.kafka import ApacheKafka
from tests.cluster.properties import password_of


@dataclass(frozen=True)
class Site:
    """``node`` is secured: topics made by user ``operator``, rights as `sluice topics acls` lists them, and no others."""

    node: ApacheKafka

    def link(self, user: str, password: str = "", prefix: str = "SLUICE_EDGE_") -> KafkaLink:
        return KafkaLink(
            self.node.bootstrap,
            "sasl_ssl",
            username=user,
            password=SecretStr(password or password_of(user)),
            ca_file=str(self.node.ca_file),
            prefix=prefix,
        )

    def knobs(self, user: str, password: str = "") -> dict[str, str]:
        """Settings of a process, without their prefix."""
        return {
            "KAFKA_BOOTSTRAP": self.node.bootstrap,
            "KAFKA_SECURITY": "sasl_ssl",
            "KAFKA_USERNAME": user,
            "KAFKA_PASSWORD": password or password_of(user),
            "KAFKA_CA_FILE": str(self.node.ca_file),
        }

    def set_up(self) -> None:
        """As an operator does it: the printed rights by Kafka's own tool, then the topics by ours."""
        listed = sluice("topics", "acls", "--json")
        for arguments in json.loads(listed.stdout)["commands"]:
            self.node.admin("acls", *arguments)
        made = sluice("topics", "create", "--partitions", "4", "--json", SLUICE_TOPICS_=self.knobs("operator"))
        assert made.returncode == 0, made.stdout + made.stderr


def sluice(*arguments: str, **settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The `sluice` command; ``settings``: by prefix, without it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    for prefix, knobs in settings.items():
        environment |= {prefix + name: value for name, value in knobs.items()}
    command = [sys.executable, "-m", "services.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
