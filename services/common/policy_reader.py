"""The policy in force, as a verifier or an edge last read it; it ends with its time to live, and older versions are ignored."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.common import keys
from services.common.policy_record import ClassKnobs, PolicyRecord
from services.common.redis_client import TRANSIENT, Client

READ_SECONDS = 2.0
VERDICT_SECONDS = 30.0  # that knobs count which came with a verdict, and not with a record that says so


@dataclass(frozen=True)
class InForce:
    """Knobs of one class and their version."""

    k: int
    gamma: float
    version: int


class PolicyReader:
    """``take`` and ``saw`` may be called at any time; ``of`` never waits. Pure but for ``run``."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._record: PolicyRecord | None = None
        self._until = 0.0
        self._seen: dict[str, tuple[InForce, float]] = {}  # by class, from verdicts

    def of(self, device_class: str) -> InForce | None:
        """The newest knobs of that class whose time is not over; ``None``: go by your own settings."""
        now = self._clock()
        found: list[InForce] = []
        if self._record is not None and now < self._until:
            knobs = self._record.of(device_class)
            found += [] if knobs is None else [_in_force(knobs, self._record.version)]
        seen = self._seen.get(device_class)
        found += [seen[0]] if seen is not None and now < seen[1] else []
        return max(found, key=lambda f: f.version, default=None)

    def take(self, record: PolicyRecord | None) -> None:
        """A record that was read. Its time counts from when its version was first seen: each publication has a new one."""
        now = self._clock()
        before = self._record
        if record is None or (before is not None and record.version == before.version):
            return
        if before is None or now >= self._until or record.version > before.version:
            self._record, self._until = record, now + record.ttl_ms / 1000

    def saw(self, device_class: str, k: int, gamma: float, version: int) -> None:
        """Knobs that came with a verdict. What cannot be is ignored, and so is an older version than the one in force."""
        if version <= 0 or not 1 <= k <= 64 or not 0.0 <= gamma <= 100.0:
            return
        now = self._clock()
        before = self._seen.get(device_class)
        if before is None or now >= before[1] or version > before[0].version:
            self._seen = {device_class: (InForce(k, gamma, version), now + VERDICT_SECONDS)}

    async def run(self, client: Client) -> None:
        """Read the record every ``READ_SECONDS``, until cancelled. While Redis is away what was read runs out."""
        redis: Any = client
        while True:
            with contextlib.suppress(*TRANSIENT):  # those who need Redis for more than this tell of the outage
                self.take(PolicyRecord.decode(await redis.get(keys.POLICY)))
            await asyncio.sleep(READ_SECONDS)


def _in_force(knobs: ClassKnobs, version: int) -> InForce:
    return InForce(knobs.k, knobs.gamma, version)
