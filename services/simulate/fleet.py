"""What a simulated fleet is made of, and the conditions it meets. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DeviceClass:
    """``devices``: how many there are at most; ``slowness``: of a draft step, against the profile. Link: ``rtt_seconds`` and a
    mean ``jitter_seconds``. Watts of the device, and joules of the radio for a round and for each candidate in it."""

    name: str
    devices: int
    slowness: float = 1.0
    rtt_seconds: float = 0.05
    jitter_seconds: float = 0.01
    draft_watts: float = 4.0
    idle_watts: float = 0.8
    round_joules: float = 0.03
    candidate_joules: float = 0.002


@dataclass(frozen=True)
class PoolSpec:
    """``line``: seconds of a pass, see ``Profile.pass_line``; ``moving_seconds``: until a dead verifier's sessions move."""

    verifiers: int
    line: tuple[float, float, float]
    most_sessions: int = 8
    idle_watts: float = 60.0
    busy_watts: float = 300.0
    moving_seconds: float = 8.0


@dataclass
class Conditions:
    """What a scenario changes while the world runs. ``active``: devices of each class that are on; ``alive``: verifiers;
    ``kind``: which stream of text is drafted."""

    active: list[int]
    alive: int
    kind: int = 0
