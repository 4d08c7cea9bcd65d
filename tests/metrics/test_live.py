"""A verifier process with the synthetic target, a real broker, a real Valkey, the edge worker's code here: what metrics say of
the answers is what the answers say of themselves, and both services' spans are one trace."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from services.common.energy.settings import EnergySettings
from services.common.lifecycle import until
from services.common.messages import Mode
from services.common.redis_client import RedisLink
from services.common.settings import load
from services.common.synthetic import DRAFT_NOISE, REFERENCE, TOKENIZER_HASH, VOCABULARY, SyntheticLaw
from services.common.tracing import Tracer, tracer
from services.edge_worker.answer import AnswerRequest, AnswerStats, OnOutage
from services.edge_worker.answerer import SessionAnswerer
from services.edge_worker.breaker import Breaker
from services.edge_worker.energy import device_energy
from services.edge_worker.fakes import TableDrafter
from services.edge_worker.kafka_client import KafkaRedisClient
from services.edge_worker.metrics import EdgeMetrics
from services.edge_worker.uplink import UplinkMeter
from tests import identities
from tests.edge_worker.conftest import Rig, request_for
from tests.metrics.collector import Collector, told
from tests.verifier.service import VerifierProcess

ANSWERS, TOKENS = 6, 24
TRACE, CLIENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def verifier(bootstrap: str, redis_url: str, tmp_path: Path, collector: Collector) -> Iterator[VerifierProcess]:
    knobs = {"MODEL": "synthetic", "ENERGY": "model", "OTLP_ENDPOINT": collector.url}
    process = VerifierProcess(bootstrap, redis_url, tmp_path / "log", **knobs)
    try:
        process.wait_ready()
        yield process
    finally:
        process.kill()


class Edge:
    """An edge worker without its HTTP API. ``ended``: the accounts of its answers."""

    def __init__(self, bootstrap: str, redis_url: str, tracing: Tracer) -> None:
        self.registry = CollectorRegistry()
        self.ended: list[AnswerStats] = []
        metrics = EdgeMetrics(self.registry)
        self.client = KafkaRedisClient(
            signer=identities.signer("test.live"),
            bootstrap=bootstrap,
            redis=RedisLink(redis_url),
            link_seconds=5.0,
            on_unknown=metrics.unknown,
        )
        self.meter = UplinkMeter(self.client.peers, self.registry)
        rig = Rig(
            drafter=TableDrafter(SyntheticLaw(noise=DRAFT_NOISE)),
            client=self.client,
            breaker=Breaker(failures=1, pause_seconds=1000.0, on_change=metrics.breaker_changed),
            observer=metrics,
            energy=device_energy(load(EnergySettings, energy="model"), "cpu", self.meter, self.registry),
            tracer=tracing,
            audit_rate=0.0,
            tokenizer_hash=TOKENIZER_HASH,
            target=REFERENCE,
            end_ids=frozenset({VOCABULARY}),
        )
        self.answerer = SessionAnswerer(rig.worker, partial(self._ended, metrics))

    def _ended(self, metrics: EdgeMetrics, _: AnswerRequest, stats: AnswerStats) -> None:
        self.ended.append(stats)
        metrics.ended(stats, objective_seconds=None, drifted=False)

    async def write(self, seed: int, **changes: Any) -> AnswerStats:
        asked = request_for(seed, **{"prompt_ids": [1, 2, 3, 4], "max_tokens": TOKENS, "deadline_seconds": 30.0} | changes)
        answer = self.answerer.answer(asked)
        async for _ in answer:
            pass
        return answer.stats

    def total(self, field: str) -> int:
        return sum(getattr(stats, field) for stats in self.ended)

    def value(self, name: str, **labels: str) -> float:
        found = self.registry.get_sample_value(f"sluice_{name}", labels)
        assert found is not None, f"{name} {labels}"
        return found


@pytest_asyncio.fixture
async def edge(bootstrap: str, redis_url: str, collector: Collector, verifier: VerifierProcess) -> AsyncIterator[Edge]:
    """After the verifier, for which the event loop stands still."""
    tracing = tracer(collector.url, "edge-worker", "test.live")
    one = Edge(bootstrap, redis_url, tracing)
    await one.client.start()
    assert await until(lambda: one.client.connected, 60)
    try:
        yield one
    finally:
        await one.client.close()
        tracing.close()


def labelled(verifier: VerifierProcess, name: str, label: str) -> float:
    wanted = f"sluice_{name}{{{label}}} "
    return float(next(line for line in verifier.get("/metrics").text.splitlines() if line.startswith(wanted)).split()[-1])


@pytest.mark.timeout(120)
async def test_metrics_say_what_the_answers_say(edge: Edge, verifier: VerifierProcess) -> None:
    for seed in range(ANSWERS):
        stats = await edge.write(seed, k=3)
        assert stats.causes == {}
    await edge.write(50, k=0, slm_only=True)
    _same_tokens(edge)
    _same_rounds(edge, verifier)
    _same_parts(edge, verifier)
    await _outage(edge, verifier)
    assert verifier.stop() == 0


def _same_tokens(edge: Edge) -> None:
    for decision in ("skipped", "accepted", "corrected", "bonus"):
        assert edge.value("tokens_total", decision=decision) == edge.total(decision) > 0, decision
    assert edge.value("tokens_total", decision="unverified") == 0
    assert edge.value("good_tokens_total") == edge.total("total")
    assert edge.value("answers_total", end="length", path="asked") == ANSWERS
    assert edge.value("answers_total", end="length", path="local") == 1
    assert edge.value("draft_step_seconds_count") == edge.value("gate_score_count") >= edge.total("total") - edge.total("bonus")


def _same_rounds(edge: Edge, verifier: VerifierProcess) -> None:
    rounds, judged = edge.total("rounds"), edge.total("judged")
    for name in ("round_trip", "round_draft", "round_uplink", "round_queue", "round_verify", "round_downlink"):
        assert edge.value(f"{name}_seconds_count") == rounds, name
    uplink, *rest = (edge.value(f"round_{name}_seconds_sum") for name in ("uplink", "queue", "verify", "downlink"))
    trip = edge.value("round_trip_seconds_sum")
    assert trip * 0.999 <= uplink + sum(rest) <= trip + uplink, "only the broker's acknowledgement may overlap with the queue"
    assert edge.value("rounds_total") == edge.value("kept_tokens_count") == rounds > ANSWERS
    assert edge.value("candidates_total") == edge.total("uploaded_candidates")
    positions = [tuple(edge.value(f"{name}_candidates_total", position=p) for name in ("judged", "accepted")) for p in "123"]
    assert sum(j for j, _ in positions) == judged
    assert sum(a for _, a in positions) == edge.total("accepted")
    assert all(j >= a > 0 for j, a in positions)
    assert labelled(verifier, "verdicts_total", 'status="ok"') == rounds
    assert verifier.metric("sluice_queue_seconds_count") == rounds
    assert labelled(verifier, "passes_total", 'phase="verify"') == rounds
    assert verifier.metric("sluice_cache_hits_total") + verifier.metric("sluice_cache_misses_total") == rounds
    assert verifier.metric("sluice_cache_hits_total") > 0


def _same_parts(edge: Edge, verifier: VerifierProcess) -> None:
    for decision in ("accepted", "corrected", "bonus"):
        assert labelled(verifier, "verified_tokens_total", f'decision="{decision}"') == edge.total(decision)
    edge.meter.sample()
    assert edge.value("uplink_bytes_total", channel="kafka") > edge.total("payload_bytes") > 0
    assert edge.value("uplink_bytes_total", channel="redis") > 0
    for component in ("draft", "wait", "radio"):
        assert edge.value("energy_joules_total", component=component, source="estimated") > 0
    assert labelled(verifier, "energy_joules_total", 'component="verify",source="estimated"') > 0
    assert verifier.metric("sluice_partitions") > 0
    assert verifier.metric("sluice_rebalances_total") > 0
    assert verifier.metric("sluice_loop_lag_seconds_count") > 0
    assert sum(edge.value("audited_score_tokens_total", score=s) for s in _scores(edge, "audited_score_tokens")) > 0


def _scores(edge: Edge, family: str) -> list[str]:
    found = [m for m in edge.registry.collect() if m.name == f"sluice_{family}"]
    return [sample.labels["score"] for metric in found for sample in metric.samples]


async def _outage(edge: Edge, verifier: VerifierProcess) -> None:
    """A frozen verifier: the deadline passes, the breaker opens; then what was asked comes too late and is dropped."""
    verifier.process.send_signal(signal.SIGSTOP)
    try:
        stats = await edge.write(60, gamma=0.0, deadline_seconds=1.0, on_outage=OnOutage.DEGRADE, mode=Mode.OPPORTUNISTIC)
        await asyncio.sleep(0.5)  # the message's time to live began when the broker got it, which was later
    finally:
        verifier.process.send_signal(signal.SIGCONT)
    assert edge.value("tokens_total", decision="unverified") == stats.unverified > 0
    assert edge.value("good_tokens_total") == edge.total("total") - stats.unverified
    assert edge.value("lost_rounds_total", cause="deadline") == stats.lost_rounds == 1
    assert edge.value("breaker_opened_total", cause="deadline") == 1
    assert edge.value("breaker_state", state="open") == 1
    assert await until(lambda: edge.value("dropped_verdicts_total", reason="ended") == 1, 20)
    assert verifier.metric("sluice_expired_total") == labelled(verifier, "verdicts_total", 'status="expired"') == 1


@pytest.mark.timeout(120)
async def test_each_round_is_five_spans_of_the_client_s_trace(
    edge: Edge, verifier: VerifierProcess, collector: Collector
) -> None:
    stats = await edge.write(3, k=3, traceparent=f"00-{TRACE}-{CLIENT}-01")
    assert verifier.stop() == 0
    await edge.client.close()
    edge.answerer._worker.tracer.close()
    spans = [s for s in collector.spans() if s.trace_id.hex() == TRACE]
    (answer,) = [s for s in spans if s.name == "answer"]
    assert answer.parent_span_id.hex() == CLIENT
    rest = [s for s in spans if s is not answer]
    assert {s.parent_span_id for s in rest} == {answer.span_id}
    assert {told(s)["sluice.session"] for s in spans} == {told(answer)["sluice.session"]}
    seen = Counter((s.name, told(s)["sluice.round"]) for s in rest)
    wanted = {(name, n) for name in ("draft", "uplink", "queue", "verify", "downlink") for n in range(stats.rounds)}
    assert seen == Counter(wanted)
    assert stats.rounds > 1
    services = {a.value.string_value for r in collector.requests for rs in r.resource_spans for a in rs.resource.attributes}
    assert {"sluice-edge-worker", "sluice-verifier"} <= services
