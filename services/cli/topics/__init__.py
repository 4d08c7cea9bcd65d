"""`sluice topics`: the topics and the rights that the services need in Kafka."""

from __future__ import annotations

from services.cli.topics.commands import app

__all__ = ["app"]
