"""The loop on a real Valkey with a collector that the test holds in its hand."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from services.common.outage import Link
from services.common.redis_client import Client, connect
from services.common.telemetry import Telemetry
from services.common.tracing import Tracer
from services.policy import publisher as publishing
from services.policy.collector import CollectError
from services.policy.controller import Controller
from services.policy.decision import Source
from services.policy.inputs import Inputs
from services.policy.journal import DecisionLog
from services.policy.loop import Loop
from services.policy.metrics import PolicyMetrics
from services.policy.publisher import Publisher, Times
from tests.policy.sensed import inputs
from tests.policy.test_controller import PLAN


@dataclass
class Hand:
    """Clock and collector at once."""

    now: float = 100.0
    up: bool = True

    def clock(self) -> float:
        return self.now

    async def collect(self, now: float) -> Inputs:
        if not self.up:
            raise CollectError("unreachable", "no Prometheus")
        return inputs(now)


def process(
    hand: Hand, client: Client, name: str, log: Path | None = None, tracer: Tracer | None = None
) -> tuple[Loop, Telemetry]:
    telemetry = Telemetry()
    loop = Loop(
        Controller(replace(PLAN, hold_seconds=20.0)),
        hand,
        client,
        Publisher(client, name, Times()),
        DecisionLog(log, 2_000),
        PolicyMetrics(telemetry.registry),
        (Link("prometheus", telemetry, needed=False), Link("redis", telemetry)),
        clock=hand.clock,
        tracer=tracer,
    )
    return loop, telemetry


async def turns(hand: Hand, loop: Loop, count: int) -> None:
    for _ in range(count):
        await loop.once()
        hand.now += 5.0


async def test_decisions_are_published_and_logged_with_inputs_and_reason(redis: Client, tmp_path: Path) -> None:
    hand = Hand()
    log = tmp_path / "decisions.jsonl"
    loop, telemetry = process(hand, redis, "one", log)
    await turns(hand, loop, 8)
    record = await publishing.current(redis)
    newest = (await publishing.history(redis, 1))[0]
    assert record is not None
    assert (newest["k"], newest["gamma"]) == (record.classes["default"].k, record.classes["default"].gamma)
    assert newest["inputs"]["utilisation"] == [0.4, 1.0]
    assert newest["reason"]
    assert newest["version"] == record.version
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines[-1]["version"] == record.version
    assert (tmp_path / "decisions.jsonl.1").exists(), "the file is renamed at its size"
    assert telemetry.registry.get_sample_value("sluice_policy_leading") == 1.0
    assert telemetry.registry.get_sample_value("sluice_policy_gamma", {"device_class": "default"}) == newest["gamma"]


async def test_prometheus_away_holds_then_safe_then_resumes(redis: Client) -> None:
    hand = Hand()
    loop, telemetry = process(hand, redis, "one")
    await turns(hand, loop, 6)
    hand.up = False
    await turns(hand, loop, 3)
    assert (await publishing.history(redis, 1))[0]["source"] == "hold"
    told = telemetry.health.readiness()
    assert told["ready"], "it does what it is there for: a rollout must not wait for Prometheus"
    assert told["notes"] == {"prometheus": False}
    assert told["reasons"] == {"prometheus": "no Prometheus"}
    await turns(hand, loop, 3)
    assert (await publishing.history(redis, 1))[0]["source"] == "safe"
    failures = {"cause": "unreachable"}
    assert telemetry.registry.get_sample_value("sluice_policy_collect_failures_total", failures) == 6.0
    hand.up = True
    await turns(hand, loop, 1)
    assert (await publishing.history(redis, 1))[0]["source"] == "control"


async def test_a_second_process_waits_and_goes_on_from_what_is_published(redis: Client) -> None:
    hand = Hand()
    first, _ = process(hand, redis, "one")
    second, _ = process(hand, redis, "two")
    await turns(hand, first, 6)
    await turns(hand, second, 2)
    assert (first.leading, second.leading) == (True, False)
    published = await publishing.current(redis)
    assert published is not None
    await first._publisher.release()
    hand.up = False  # so that it has nothing but the record to go by
    third, _ = process(hand, redis, "three")
    decisions = await third.once()
    assert third.leading
    assert (decisions["default"].k, decisions["default"].gamma) == (
        published.classes["default"].k,
        published.classes["default"].gamma,
    )
    after = await publishing.current(redis)
    assert after is not None
    assert after.version > published.version


async def test_a_persons_hand_is_published_and_lets_go(redis: Client) -> None:
    hand = Hand()
    loop, _ = process(hand, redis, "one")
    await publishing.override(redis, "default", 1, 1.75, 600.0, "trial")
    assert (await loop.once())["default"].source is Source.OVERRIDE
    record = await publishing.current(redis)
    assert record is not None
    assert (record.classes["default"].k, record.classes["default"].gamma) == (1, 1.75)
    await publishing.override(redis, "default", 0, 0.0, 0.0)
    hand.now += 5.0
    assert (await loop.once())["default"].source is Source.CONTROL


async def test_redis_away_stops_nothing_but_publishing() -> None:
    client = connect("redis://127.0.0.1:1/0", connections=1, timeout_seconds=0.5)
    hand = Hand()
    loop, telemetry = process(hand, client, "one")
    await turns(hand, loop, 3)
    assert not loop.leading
    assert not telemetry.ready, "nothing can be published"
    await client.aclose()
