"""Broker or Redis away for a while: answers go on unverified, the breaker opens and closes, nobody is started again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from services.edge_worker.answer import Decision
from services.edge_worker.breaker import State
from tests.chaos.brokers import Apache
from tests.chaos.evidence import behind
from tests.chaos.fleet import Fleet, Habits
from tests.chaos.redis_node import RedisNode, Switch
from tests.chaos.scaling import endless
from tests.chaos.site import Site, closed, until

DEVICES = 4
VERIFIERS = 2
DEADLINE_SECONDS = 1.0
DRAFT_SECONDS = 0.025
ANSWERS = 12
WARM_SECONDS = 2.0
RECOVERY_SECONDS = 90.0
MISSING_SECONDS = 1.0  # of writes that the promoted replica has not seen


@dataclass(frozen=True)
class OutageScale:
    """``seconds`` that the part is away."""

    seconds: float
    seed: int = 3


@dataclass
class OutageFigures:
    """``unverified_during``: share of the tokens that came while the part was away. ``recovery``: seconds until all devices
    were verified again. ``restarted``: verifiers that had to be replaced.
    """

    what: str
    seconds: float
    answers: int
    answers_failed: int
    tokens_during: int
    unverified_during: float
    breaker_opened: bool
    breaker_closed: bool
    recovery: float
    restarted: int
    partitions_behind: list[int]


Act = Callable[[], Awaitable[object]]


async def outage(site: Site, scale: OutageScale, what: str, down: Act, up: Act, redis_url: str = "") -> OutageFigures:
    """Load, ``down``, wait, ``up``, and load until every device is verified again."""
    clock = asyncio.get_running_loop().time
    habits = Habits(deadline=DEADLINE_SECONDS, draft=DRAFT_SECONDS)
    name = what.replace(" ", "-")[:10]
    async with (
        site.pool(redis_url=redis_url) as pool,
        site.fleet(name, DEVICES, habits, redis_url) as fleet,
    ):
        await pool.grow(VERIFIERS)
        load = asyncio.create_task(fleet.keep_writing(ANSWERS, endless(24, scale.seed)))
        await asyncio.sleep(WARM_SECONDS)
        begin = clock()
        await down()
        await asyncio.sleep(max(0.0, scale.seconds - (clock() - begin)))
        opened = all(State.OPEN in d.breaker.history for d in fleet.devices)
        end = clock()
        await up()
        back = clock()
        try:
            await until("every breaker closed again", lambda: closed(fleet), RECOVERY_SECONDS)
        except AssertionError:
            site.say(f"{what}: breakers {[(d.breaker.state, d.breaker.cause) for d in fleet.devices]}")
        recovery = clock() - back
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
        await fleet.finish()
        restarted = pool.count_crashes()
        during = _decisions(fleet, begin, end)
        return OutageFigures(
            what=what,
            seconds=scale.seconds,
            answers=len(fleet.written),
            answers_failed=sum(not w.complete for w in fleet.written),
            tokens_during=len(during),
            unverified_during=sum(d is Decision.UNVERIFIED for d in during) / max(1, len(during)),
            breaker_opened=opened,
            breaker_closed=closed(fleet),
            recovery=recovery,
            restarted=restarted,
            partitions_behind=await behind(site.broker.bootstrap),
        )


def _decisions(fleet: Fleet, begin: float, end: float) -> list[Decision]:
    return [d for w in fleet.written for d, at in zip(w.decisions, w.at, strict=True) if begin < at < end]


async def broker_stopped(site: Site, scale: OutageScale) -> OutageFigures:
    """Stopped and started again at the same address with its data: Apache Kafka only."""
    assert isinstance(site.broker, Apache)
    return await outage(site, scale, "broker stopped", site.broker.stop, site.broker.start)


async def broker_frozen(site: Site, scale: OutageScale) -> OutageFigures:
    return await outage(site, scale, "broker frozen", _soon(site.broker.pause), _soon(site.broker.resume))


async def redis_stopped(site: Site, scale: OutageScale) -> OutageFigures:
    """It comes back with its data."""
    return await outage(site, scale, "redis stopped", lambda: site.redis.stop(keep_data=True), site.redis.start)


async def redis_emptied(site: Site, scale: OutageScale) -> OutageFigures:
    """It comes back empty."""
    return await outage(site, scale, "redis emptied", lambda: site.redis.stop(keep_data=False), site.redis.start)


async def redis_promoted(site: Site, scale: OutageScale) -> OutageFigures:
    """The primary dies, and its replica, which has not seen the last second, takes its place at the same address."""
    primary = await RedisNode(site.children, "primary").start()
    replica = await RedisNode(site.children, "replica", replica_of=primary.port).start()
    switch = await Switch(primary.port).start()

    async def down() -> None:
        await replica.promote()
        await asyncio.sleep(MISSING_SECONDS)  # the primary goes on alone
        primary.kill()

    async def up() -> None:
        switch.to(replica.port)

    try:
        return await outage(site, scale, "replica promoted", down, up, switch.url)
    finally:
        await switch.close()
        replica.kill()


def _soon(action: Callable[[], None]) -> Act:
    async def run() -> None:
        action()

    return run


ALL: dict[str, Callable[[Site, OutageScale], Awaitable[OutageFigures]]] = {
    "broker_stopped": broker_stopped,
    "redis_stopped": redis_stopped,
    "redis_emptied": redis_emptied,
    "redis_promoted": redis_promoted,
}
