"""A verifier process with the synthetic target, a real broker, a real Valkey: joules from the pass to the answer's account."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.common.energy.settings import EnergySettings
from services.common.kafka.link import KafkaLink
from services.common.lifecycle import until
from services.common.redis_client import RedisLink
from services.common.settings import load
from services.common.synthetic import DRAFT_NOISE, REFERENCE, TOKENIZER_HASH, VOCABULARY, SyntheticLaw
from services.edge_worker.energy import device_energy
from services.edge_worker.fakes import TableDrafter
from services.edge_worker.http.knobs import Knobs
from services.edge_worker.http.summary import summary
from services.edge_worker.kafka_client import KafkaRedisClient
from services.edge_worker.session import Session, Worker
from services.edge_worker.uplink import UplinkMeter
from tests import identities
from tests.edge_worker.conftest import Rig, request_for
from tests.verifier.service import VerifierProcess

PASS_MS, BUSY_WATTS = 20, 65  # of the profile `cpu`


@pytest.fixture
def verifier(bootstrap: str, redis_url: str, tmp_path: Path) -> Iterator[VerifierProcess]:
    knobs = {"MODEL": "synthetic", "SYNTHETIC_PASS_MS": str(PASS_MS), "ENERGY": "model"}
    process = VerifierProcess(bootstrap, redis_url, tmp_path / "log", **knobs)
    try:
        process.wait_ready()
        yield process
        assert process.stop() == 0
    finally:
        process.kill()


async def test_joules_come_back_with_the_verdicts(verifier: VerifierProcess, bootstrap: str, redis_url: str) -> None:
    registry = CollectorRegistry()
    client = KafkaRedisClient(
        signer=identities.signer("test.joules"), bootstrap=KafkaLink(bootstrap), redis=RedisLink(redis_url), link_seconds=5.0
    )
    meter = UplinkMeter(client.peers, registry)
    energy = device_energy(load(EnergySettings, energy="model", power_profile="phone"), "cpu", meter, registry)
    worker = _worker(client, energy)
    await client.start()
    try:
        assert await until(lambda: client.connected, 60)
        slot = worker.drafter.acquire()
        assert slot is not None
        asked = request_for(7, prompt_ids=list(range(1, 9)), max_tokens=12, gamma=0.0, deadline_seconds=30.0)
        session = Session(asked, worker, slot)
        tokens = [t async for t in session]
    finally:
        await client.close()
    stats = session.stats
    assert stats.rounds >= 2
    assert stats.unverified == 0
    knobs = Knobs(asked.mode, asked.k, asked.gamma, asked.deadline_seconds, asked.on_outage)
    account = summary(stats, Counter(t.decision for t in tokens), knobs, "none", "")
    joules: dict[str, float] = account["energy_joules"]
    assert set(joules) == {"draft", "wait", "radio", "verify"}
    assert all(value > 0 for value in joules.values())
    assert set(account["energy_source"].values()) == {"estimated"}
    assert account["energy_joules_per_token"] == pytest.approx(sum(joules.values()) / len(tokens))
    # One session alone: each of its passes is all its own, and took the time that the target was told to take, or longer.
    least = BUSY_WATTS * stats.rounds * PASS_MS / 1000
    assert joules["verify"] >= least
    spent = {name: _joules(verifier, name) for name in ("verify", "prefill")}
    assert math.isclose(sum(spent.values()), joules["verify"], rel_tol=1e-9)
    for name in ("draft", "wait"):
        told = registry.get_sample_value("sluice_energy_joules_total", {"component": name, "source": "estimated"})
        assert told == pytest.approx(joules[name])
    sent = sum(registry.get_sample_value("sluice_uplink_bytes_total", {"channel": c}) or 0 for c in ("kafka", "redis"))
    assert joules["radio"] <= 8 * (sent * 4.38e-7 + 1e6 * 5.2e-8)


def _joules(verifier: VerifierProcess, component: str) -> float:
    wanted = f'sluice_energy_joules_total{{component="{component}",source="estimated"}} '
    return float(next(line for line in verifier.get("/metrics").text.splitlines() if line.startswith(wanted)).split()[-1])


def _worker(client: Any, energy: Any) -> Worker:
    drafter = TableDrafter(SyntheticLaw(noise=DRAFT_NOISE))
    names = {"tokenizer_hash": TOKENIZER_HASH, "target": REFERENCE, "end_ids": frozenset({VOCABULARY})}
    return Rig(drafter=drafter, client=client, energy=energy, audit_rate=0.0, **names).worker
