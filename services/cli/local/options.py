"""What a local stack is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.cli.errors import CommandError
from services.common.settings import usable_cores

# The embedded broker has four partitions a topic: a fifth verifier would have nothing to do.
EMBEDDED_PARTITIONS = 4


@dataclass(frozen=True)
class StackOptions:
    """``kafka``, ``redis``: addresses of external ones; ``None``: embedded. ``port``: of the first edge worker's HTTP API,
    ``None``: any free one, as the others' always is.

    ``draft``, ``target``: Hugging Face id, folder or GGUF file; ``None``: those of ``preset``.
    """

    verifiers: int = 2
    edge_workers: int = 1
    host: str = "127.0.0.1"
    port: int | None = None
    preset: str | None = None
    draft: str | None = None
    target: str | None = None
    kafka: str | None = None
    redis: str | None = None
    redis_memory_mb: int = 256
    broker_rtt_ms: int = 0
    start_seconds: float = 600.0  # a model may have to be downloaded first
    stop_seconds: float = 25.0  # for each part, before it is killed: above the drain budget of the services
    threads: int | None = None  # of torch, in each service
    edge_environment: Mapping[str, str] = field(default_factory=dict)
    verifier_environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.verifiers < 1:
            raise CommandError(f"--verifiers must be at least 1, not {self.verifiers}")
        if self.edge_workers < 1:
            raise CommandError(f"--edge-workers must be at least 1, not {self.edge_workers}")
        if self.kafka is None and self.verifiers > EMBEDDED_PARTITIONS:
            raise CommandError(
                f"the embedded broker has {EMBEDDED_PARTITIONS} partitions: work for {EMBEDDED_PARTITIONS} verifiers at most;"
                " use fewer, or a real broker with --kafka HOST:PORT"
            )
        if self.port is not None and not 1 <= self.port <= 65535:
            raise CommandError(f"--port must be between 1 and 65535, not {self.port}")


def default_threads(verifiers: int) -> int:
    """Threads of torch in each service: one answer keeps two processes busy at a time."""
    return max(1, usable_cores() // min(verifiers + 1, 2))
