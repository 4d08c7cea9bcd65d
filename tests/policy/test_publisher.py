"""Lease, record, log and overrides on a real Valkey."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.common import keys
from services.common.policy_record import FENCE_SHIFT, PolicyRecord
from services.common.redis_client import Client
from services.policy import publisher as publishing
from services.policy.decision import Decision, Source
from services.policy.publisher import Publisher, Times


def decided(k: int = 2, gamma: float = 0.7) -> dict[str, Decision]:
    return {"default": Decision("default", k, gamma, "a test", Source.CONTROL, 1.5, old=(4, 1.0))}


async def test_one_process_leads_and_the_other_takes_over_at_its_end(redis: Client) -> None:
    first, second = Publisher(redis, "first", Times()), Publisher(redis, "second", Times())
    assert await first.lead()
    assert not await second.lead()
    assert not await second.publish(decided())
    assert await first.publish(decided())
    before = first.version
    await first.release()
    assert await second.lead()
    assert await second.publish(decided())
    assert second.version > before
    assert second.version >> FENCE_SHIFT > before >> FENCE_SHIFT


async def test_a_lost_lease_publishes_nothing_any_more(redis: Client) -> None:
    """The lease ran out unnoticed, another process took it: what the first one still writes changes nothing."""
    first, second = Publisher(redis, "first", Times()), Publisher(redis, "second", Times())
    await first.lead()
    await first.publish(decided(1, 0.1))
    raw: Any = redis
    await raw.delete(keys.POLICY_LEASE)  # as its time to live would
    assert await second.lead()
    assert await second.publish(decided(3, 0.3))
    assert not await first.publish(decided(1, 0.1), [{"at": 0}])
    record = await publishing.current(redis)
    assert record is not None
    assert record.classes["default"].k == 3
    assert record.version == second.version
    assert not await first.lead()


async def test_two_publishers_at_once_never_interleave(redis: Client) -> None:
    """Both try all the time, leases are lost on the way: versions in the log only grow, and each fencing token is one block."""
    raw: Any = redis

    async def publish(name: str) -> None:
        publisher = Publisher(redis, name, Times())
        for _ in range(40):
            if await publisher.lead():
                await publisher.publish(decided(), [{"by": name}])

    async def lose() -> None:
        for _ in range(20):
            await raw.delete(keys.POLICY_LEASE)
            await asyncio.sleep(0)

    await asyncio.gather(publish("first"), publish("second"), lose())
    log = list(reversed(await publishing.history(redis, 1000)))
    versions = [entry["version"] for entry in log]
    assert len(versions) > 20
    assert versions == sorted(set(versions))
    fences = [v >> FENCE_SHIFT for v in versions]
    holders = {(f, entry["by"]) for f, entry in zip(fences, log, strict=True)}
    assert len(holders) == len(set(fences)), "one fencing token, two holders"


async def test_a_restart_and_a_lost_redis_continue_the_version(redis: Client) -> None:
    first = Publisher(redis, "first", Times())
    await first.lead()
    await first.publish(decided())
    before = first.version
    raw: Any = redis
    await raw.delete(keys.POLICY_LEASE, keys.POLICY_FENCE, keys.POLICY)
    await asyncio.sleep(1.0 - (await raw.time())[1] / 1e6 + 0.01)  # the token grows with the server's seconds
    again = Publisher(redis, "again", Times())
    await again.lead()
    await again.publish(decided())
    assert again.version > before


async def test_a_record_and_its_lease_end_by_themselves(redis: Client) -> None:
    publisher = Publisher(redis, "first", Times(lease_ms=5_000, record_ms=7_000))
    await publisher.lead()
    await publisher.publish(decided())
    raw: Any = redis
    assert 0 < await raw.pttl(keys.POLICY_LEASE) <= 5_000
    assert 0 < await raw.pttl(keys.POLICY) <= 7_000


async def test_the_log_is_bounded(redis: Client) -> None:
    publisher = Publisher(redis, "first", Times(log_entries=50))
    await publisher.lead()
    for _ in range(40):
        await publisher.publish(decided(), [{"n": n} for n in range(10)])
    raw: Any = redis
    assert await raw.xlen(keys.POLICY_LOG) <= 50 + 100  # whole nodes of the stream go at a time: at most 100 entries each


async def test_an_override_counts_down_on_the_servers_clock_and_can_be_taken_away(redis: Client) -> None:
    await publishing.override(redis, "phone", 3, 0.5, 60.0, "trial")
    await publishing.override(redis, "board", 1, 0.0, 0.02)
    found = await publishing.overrides(redis)
    assert (found["phone"].k, found["phone"].gamma, found["phone"].reason) == (3, 0.5, "trial")
    assert 59.0 < found["phone"].left_seconds <= 60.0
    raw: Any = redis
    while await raw.hexists(keys.POLICY_OVERRIDES, "board"):
        found = await publishing.overrides(redis)
    assert set(found) == {"phone"}
    await publishing.override(redis, "phone", 0, 0.0, 0.0)
    assert await publishing.overrides(redis) == {}


@pytest.mark.parametrize(
    "junk", [b"", b"[]", b'{"version": -1}', b'{"version":1,"ttl_ms":5,"classes":{"a":{"k":1,"gamma":NaN}}}']
)
def test_a_record_that_cannot_be_read_is_none(junk: bytes) -> None:
    assert PolicyRecord.decode(junk) is None


def test_a_class_without_knobs_goes_by_the_default() -> None:
    record = PolicyRecord.decode(b'{"version":1,"ttl_ms":5,"classes":{"default":{"k":1,"gamma":0.5},"a":{"k":2,"gamma":1}}}')
    assert record is not None
    found = {name: record.of(name) for name in ("a", "b")}
    assert found["a"] is not None
    assert found["b"] is not None
    assert (found["a"].k, found["b"].k) == (2, 1)
