"""From a record in Redis to the knobs of a round: reader, verdict, session, and what a request keeps for itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.common import keys
from services.common.lifecycle import until
from services.common.messages import Verdict
from services.common.policy_reader import VERDICT_SECONDS, InForce, PolicyReader
from services.common.policy_record import ClassKnobs, PolicyRecord
from services.common.redis_client import Client
from services.edge_worker.answer import Follows
from services.edge_worker.metrics import EdgeMetrics
from tests.edge_worker.conftest import Rig
from tests.wire.pool import Device, Verifier, greedy


@dataclass
class Clock:
    now: float = 10.0

    def __call__(self) -> float:
        return self.now


def record(version: int, k: int = 3, gamma: float = 0.5, ttl_ms: int = 30_000) -> PolicyRecord:
    return PolicyRecord(version=version, ttl_ms=ttl_ms, classes={"default": ClassKnobs(k=k, gamma=gamma)})


def test_a_record_counts_until_its_time_is_over() -> None:
    clock = Clock()
    reader = PolicyReader(clock)
    reader.take(record(5))
    clock.now += 29.0
    reader.take(record(5))  # the same one again does not live longer
    assert reader.of("default") == InForce(3, 0.5, 5)
    clock.now += 2.0
    assert reader.of("default") is None


def test_lower_versions_are_ignored_until_the_higher_one_has_run_out() -> None:
    clock = Clock()
    reader = PolicyReader(clock)
    reader.take(record(9, k=2))
    reader.take(record(8, k=5))
    reader.saw("default", 6, 1.0, 7)
    assert reader.of("default") == InForce(2, 0.5, 9)
    reader.saw("default", 6, 1.0, 10)
    assert reader.of("default") == InForce(6, 1.0, 10)
    clock.now += max(31.0, VERDICT_SECONDS + 1.0)
    reader.take(record(3, k=1))
    assert reader.of("default") == InForce(1, 0.5, 3)


@pytest.mark.parametrize("bad", [(0, 0.5, 3), (2, -1.0, 3), (2, float("nan"), 3), (2, 0.5, 0), (999, 0.5, 3)])
def test_absurd_knobs_on_a_verdict_are_ignored(bad: tuple[int, float, int]) -> None:
    reader = PolicyReader(Clock())
    reader.saw("default", *bad)
    assert reader.of("default") is None


async def test_the_reader_finds_what_is_published(redis: Client) -> None:
    raw: Any = redis
    await raw.set(keys.POLICY, record(4).encode(), px=30_000)
    reader = PolicyReader()
    task = asyncio.create_task(reader.run(redis))
    assert await until(lambda: reader.of("default") is not None, 5.0)
    task.cancel()
    assert reader.of("default") == InForce(3, 0.5, 4)


async def test_the_first_round_already_goes_by_the_policy_and_says_so() -> None:
    reader = PolicyReader()
    reader.take(record(7, k=1, gamma=0.0))
    rig = Rig(policy=reader)
    _, session = await rig.write(5, gamma=1.0, k=2, follows=Follows(8, 2.0))
    assert session.stats.skipped == 0, "gamma 0 asks about every token"
    assert {b.policy_version for b in rig.client.batches} == {7}
    assert all(sum(t.x is not None for t in b.tokens()) <= 1 for b in rig.client.batches), "k is 1"
    assert rig.client.opens[0].device_class == "default"


async def test_a_change_holds_from_the_next_round_on_and_expires() -> None:
    """The knobs change while the answer runs, and run out before its end: its own come back."""
    clock = Clock()
    reader = PolicyReader(clock)
    reader.take(record(7, k=1, gamma=0.0))
    rig = Rig(policy=reader)
    session = rig.session(5, gamma=1.0, k=2, max_tokens=30, follows=Follows(8, 2.0))
    versions: list[int] = []
    async for _ in session:
        if len(rig.client.batches) == 3:
            clock.now += 60.0
        versions = [b.policy_version for b in rig.client.batches]
    assert versions[:3] == [7, 7, 7]
    assert versions[-1] == 0
    assert session.stats.skipped > 0, "back at gamma 1 some tokens are skipped"
    assert not session.stats.lossless


async def test_an_edge_keeps_its_own_bounds_and_a_request_its_own_knobs() -> None:
    reader = PolicyReader()
    reader.take(record(7, k=8, gamma=9.0))
    bound, own = Rig(policy=reader), Rig(policy=reader)
    _, free = await bound.write(5, gamma=1.0, k=2, max_tokens=30, follows=Follows(1, 0.0))
    assert free.stats.skipped == 0, "gamma stays at the edge's bound"
    _, fixed = await own.write(5, gamma=1.0, k=2, max_tokens=30)
    plain = Rig()
    _, same = await plain.write(5, gamma=1.0, k=2, max_tokens=30)
    assert replace(fixed.stats, draft_seconds=0.0, wait_seconds=0.0) == replace(same.stats, draft_seconds=0.0, wait_seconds=0.0)


async def test_a_verifier_puts_the_knobs_of_the_class_on_its_verdicts(redis: Client) -> None:
    """Also after the record has run out: then there are none."""
    clock = Clock()
    reader = PolicyReader(clock)
    classes = {"default": ClassKnobs(k=3, gamma=0.5), "phone": ClassKnobs(k=1, gamma=0.75)}
    reader.take(PolicyRecord(version=6, ttl_ms=30_000, classes=classes))
    span = greedy(9, 8)
    async with Verifier(redis) as verifier:
        verifier.handler._policy = reader
        found = []
        for device_class in ("phone", "another"):
            device = Device(redis)
            await verifier.take(device.record(device.opening(device_class=device_class)))
            await verifier.take(device.record(device.batch(span)))
            found.append(await device.verdict())
        clock.now += 31.0
        device = Device(redis)
        await verifier.take(device.record(device.opening()))
        await verifier.take(device.record(device.batch(span)))
        found.append(await device.verdict())
    knobs = [(v.policy_k, v.policy_gamma, v.policy_version) for v in found]
    assert knobs == [(1, 0.75, 6), (3, 0.5, 6), (None, None, 0)]


async def test_knobs_on_a_verdict_are_taken_over() -> None:
    reader = PolicyReader()
    rig = Rig(policy=reader)
    hand_over = rig.client._hand_over

    def with_policy(verdict: Verdict) -> None:
        hand_over(verdict.model_copy(update={"policy_k": 1, "policy_gamma": 0.0, "policy_version": 3}))

    rig.client._hand_over = with_policy  # type: ignore[method-assign]
    await rig.write(5, gamma=0.5, k=4, max_tokens=30, follows=Follows(8, 2.0))
    assert rig.client.batches[0].policy_version == 0
    assert rig.client.batches[-1].policy_version == 3
    assert reader.of("default") == InForce(1, 0.0, 3)


async def test_what_the_controller_reads_is_counted_by_score() -> None:
    registry = CollectorRegistry()
    rig = Rig(observer=EdgeMetrics(registry))
    stats = [(await rig.write(seed, max_tokens=20))[1].stats for seed in range(10)]
    total = {
        name: sum(s.value for m in registry.collect() for s in m.samples if s.name == f"sluice_{name}_total")
        for name in ("audited_score_tokens", "audit_rejection", "judged_score_tokens", "refused_score_tokens")
    }
    assert total["judged_score_tokens"] == sum(s.judged for s in stats)
    assert total["refused_score_tokens"] == sum(s.corrected for s in stats)
    assert 0.0 < total["audit_rejection"] < total["audited_score_tokens"]
    drafted = registry.get_sample_value("sluice_gate_score_count") or 0.0
    assert drafted >= sum(s.skipped + s.judged for s in stats)
