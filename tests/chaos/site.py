"""Where a scenario takes place: a broker, a Redis, verifiers to come, and the credentials of all devices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.common.credentials import Credential, Signer, masters_text, new_master
from services.edge_worker.breaker import State
from tests.chaos.brokers import Broker
from tests.chaos.children import Children
from tests.chaos.fleet import Fleet, Habits, Model
from tests.chaos.redis_node import RedisNode
from tests.chaos.verifiers import Pool

MASTERS = {1: new_master()}
GROUP = "chaos"


def credential(group: str = GROUP) -> Credential:
    return Credential.issue(MASTERS, 1, group)


def signer(instance: str, group: str = GROUP) -> Signer:
    return Signer(credential(group), f"{group}.{instance}")


@dataclass
class Site:
    """``say`` gets a line about whatever takes long. ``redis`` runs; a scenario may put another address in front of it."""

    children: Children
    broker: Broker
    redis: RedisNode
    say: Callable[[str], None]

    @property
    def short_session_ms(self) -> int:
        """The shortest session timeout that works here; the embedded broker lets joining members wait for 3 s already."""
        return 6_000 if self.broker.embedded else 1_500

    def settings(self, redis_url: str, session_timeout_ms: int, **more: object) -> dict[str, str]:
        """Environment of a verifier of this site."""
        values: dict[str, object] = {
            "MODEL": "synthetic",
            "SYNTHETIC_PASS_MS": 60,
            "SLOTS": 128,
            "MAX_BATCH_SESSIONS": 16,
            "KAFKA_BOOTSTRAP": self.broker.bootstrap,
            "EMBEDDED": self.broker.embedded,
            "REDIS_URL": redis_url,
            "SESSION_TIMEOUT_MS": session_timeout_ms,
            "MASTER_KEYS": masters_text(MASTERS),
            "REPLIES_MAXLEN": 100_000,
            **more,
        }
        return {f"SLUICE_VERIFIER_{name}": str(value) for name, value in values.items()}

    @asynccontextmanager
    async def pool(
        self, *, redis_url: str = "", session_timeout_ms: int = 0, environment: Mapping[str, str] | None = None, **more: object
    ) -> AsyncIterator[Pool]:
        """``more``: settings of the verifiers; ``environment``: other variables of theirs."""
        settings = self.settings(redis_url or self.redis.url, session_timeout_ms or self.short_session_ms, **more)
        pool = Pool(self.children, {**settings, **(environment or {})}, self.broker.partitions)
        try:
            yield pool
        finally:
            await pool.close()

    def fleet(self, name: str, devices: int, habits: Habits, redis_url: str = "", model: Model | None = None) -> Fleet:
        """``name`` keeps the devices of one scenario apart from those of the others."""
        signers = [signer(f"{name}-{n}") for n in range(devices)]
        return Fleet(signers, self.broker.bootstrap, redis_url or self.redis.url, habits, model)


async def until(what: str, condition: Callable[[], bool], seconds: float) -> None:
    """Wait for ``condition``; ``AssertionError`` that says ``what`` did not happen."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not condition():
        assert loop.time() < end, f"{what}: not within {seconds:.0f} s"
        await asyncio.sleep(0.02)


def closed(fleet: Fleet) -> bool:
    """Whether every device asks its verifiers again."""
    return all(d.breaker.state is State.CLOSED for d in fleet.devices)
