"""What all sessions of one edge worker share, and what it wants to know of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from services.common.messages import Verdict
from services.common.policy_reader import PolicyReader
from services.common.tracing import Tracer, Untraced
from services.edge_worker.answer import TokenOut
from services.edge_worker.breaker import Breaker
from services.edge_worker.draft import Drafter
from services.edge_worker.energy import DeviceEnergy
from services.edge_worker.gate import Gate
from services.edge_worker.transcript import Flight
from services.edge_worker.verifier_client import VerifierClient


class Observer:
    """What a worker wants to know of its sessions; the default looks away."""

    def token(self, token: TokenOut) -> None: ...

    def round(self, flight: Flight, verdict: Verdict, seconds: float) -> None: ...

    def lost(self, cause: str) -> None: ...

    def drafted(self, seconds: float) -> None: ...

    def late(self) -> None: ...

    def scored(self, u: float) -> None: ...


@dataclass(frozen=True)
class Worker:
    """What all sessions of one edge worker share."""

    drafter: Drafter
    client: VerifierClient
    breaker: Breaker
    gate: Gate
    end_ids: frozenset[int]
    tokenizer_hash: str
    target: str
    span_tokens: int
    wait_tokens: int
    risk: float
    audit_rate: float
    wait_seconds: float  # how long a lossless answer waits for a verifier in all before it fails
    observer: Observer
    policy: PolicyReader | None = None
    tracer: Tracer = field(default_factory=Untraced)
    energy: DeviceEnergy = field(default_factory=DeviceEnergy)
    device_class: str = "default"
    ahead: bool = True  # draft on while a round is out; the answer is the same without, only later
    clock: Callable[[], float] = time.monotonic
