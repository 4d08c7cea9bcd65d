"""Edges that are broken or lie, each among fifteen honest ones on a real Prometheus: what of it the collector lets through."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from services.policy.budgets import Budgets
from services.policy.collector import Collector, Prometheus
from services.policy.controller import Controller, Plan
from services.policy.decision import Decision, Source
from services.policy.inputs import Inputs, missing
from services.policy.model import Edge
from services.policy.queries import Fleet, Windows
from tests.policy.backfill import PAST_SECONDS, BackfilledServer, Page
from tests.policy.pages import edge_page, verifier_page
from tests.policy.prometheus import PrometheusServer, needed

BUDGET = 0.05
CROWD = 15


def lying(page: str, **factors: float) -> str:
    """``page`` with the series whose names begin so multiplied."""
    out = []
    for line in page.splitlines():
        series, _, value = line.rpartition(" ")
        times = [f for name, f in factors.items() if series.startswith(f"sluice_{name}")]
        out.append(f"{series} {float(value) * times[0]:g}" if times else line)
    return "\n".join(out) + "\n"


def all_nan(seconds: float) -> str:
    page = edge_page("phone", seconds)
    return "".join(line.rpartition(" ")[0] + " NaN\n" for line in page.splitlines() if "gamma_bound" not in line)


def foreign_buckets(seconds: float) -> str:
    more = "".join(f'sluice_gate_score_bucket{{le="0.{n}"}} {n}\n' for n in (33, 77, 123))
    return edge_page("phone", seconds) + more


def damaging(seconds: float) -> str:
    """Every token is skipped, and the target would have refused each of them."""
    return lying(edge_page("phone", seconds), audit_rejection=100 / 7, audited_score=100 / 70)


HOSTILE: dict[str, Page] = {
    "millions of tokens": lambda s: lying(edge_page("phone", s), tokens=1e6, draft_step=1e6, gate_score=1e6),
    "millions of rounds": lambda s: lying(edge_page("phone", s), rounds=1e6, round_trip=1e6, round_queue=1e6),
    "huge devices": lambda s: lying(edge_page("phone", s), sessions=1e6),
    "slow": lambda s: lying(edge_page("phone", s), round_trip_seconds_sum=1e4, round_queue_seconds_sum=1e4),
    "huge audits": lambda s: lying(edge_page("phone", s), audit_rejection=1e9, audited_score=1e9),
    "damaging": damaging,
    "harmless": lambda s: lying(edge_page("phone", s), audit_rejection=0.0, refused_score=0.0),
    "nan": all_nan,
    "negative": lambda s: lying(edge_page("phone", s), tokens=-1e6, rounds=-1e6, sessions=-1e6, audit=-1e6, energy=-1e6),
    "strict": lambda s: lying(edge_page("phone", s), gamma_bound=0.0),
    "two classes": lambda s: edge_page("phone", s) + 'sluice_gamma_bound{device_class="board"} 1\n',
    "own buckets": foreign_buckets,
    "another age": lambda s: edge_page("phone", s).replace(
        "sluice_sessions 3.0\n", "" if s > PAST_SECONDS - 100 else "sluice_sessions 3.0\n"
    ),
    "poses as verifier": lambda s: edge_page("phone", s) + "sluice_partitions 9\nsluice_engine_busy_seconds_total 0\n",
}
LEFT_OUT = {
    "millions of tokens": "drafted tokens",
    "millions of rounds": "rounds",
    "huge devices": "sessions",
    "slow": "round_trip_seconds",
    "huge audits": "audited",
    "two classes": "several device classes",
}


def settled(inputs: Inputs) -> Decision:
    """What the controller comes to if it sees that for some time. The pages are those of a gate at 0.5, which is gamma 1."""
    controller = Controller(Plan(budgets=Budgets(damage=0.1), edge=Edge(tau_u=0.5)), ())
    for now in range(0, 30, 5):
        controller.observe(replace(inputs, now=float(now)))
        found = controller.decide(float(now))
    return found["phone"]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    jobs: dict[str, list[Page]] = {
        "verifiers": [verifier_page, verifier_page],
        "crowd": [partial(edge_page, "phone", size=0.8 + 0.4 * i / (CROWD - 1)) for i in range(CROWD)],
        **{kind: [page] for kind, page in HOSTILE.items()},
    }
    with needed(), BackfilledServer(tmp_path_factory.mktemp("prometheus"), jobs, Windows().scrape) as server:
        yield server


async def seen(server: PrometheusServer, edges: str, verifiers: str = 'job="verifiers"') -> Inputs:
    source = Prometheus(server.url, 10.0)
    try:
        return await Collector(source, Windows(), Fleet(edges, verifiers), BUDGET).collect(50.0)
    finally:
        await source.close()


@pytest.fixture(scope="module")
def honest(prometheus: PrometheusServer) -> Inputs:
    """The crowd alone."""
    return asyncio.run(seen(prometheus, 'job="crowd"'))


@pytest.mark.parametrize("kind", HOSTILE)
async def test_one_broken_or_hostile_edge_among_fifteen_moves_next_to_nothing(
    kind: str, prometheus: PrometheusServer, honest: Inputs
) -> None:
    """One of sixteen may weigh as much as four others: no reading moves by more than a fifth, and gamma hardly."""
    inputs = await seen(prometheus, f'job=~"crowd|{kind}"')
    assert set(inputs.left_out.items()) == ({(f"{kind}:0", LEFT_OUT[kind])} if kind in LEFT_OUT else set())
    assert set(inputs.classes) == {"phone"}
    before, after = honest.classes["phone"], inputs.classes["phone"]
    for name, reading in before.readings.items():
        assert after.readings[name].value == pytest.approx(reading.value, rel=0.2), name
        assert 0.0 <= after.readings[name].age_seconds < 6.0
    assert {n: r.value for n, r in inputs.pool.items()} == pytest.approx({n: r.value for n, r in honest.pool.items()})
    assert before.scores is not None
    assert after.scores is not None
    assert after.scores.edges.tolist() == before.scores.edges.tolist()
    for row in ("drafted", "audited", "audit", "judged", "refused"):
        mine, other = getattr(before.scores, row), getattr(after.scores, row)
        assert np.abs(other / other.sum() - mine / mine.sum()).max() < 0.15, row
    knobs = settled(inputs)
    assert knobs.source is Source.CONTROL
    assert knobs.gamma == pytest.approx(settled(honest).gamma, abs=0.1)


async def test_an_edge_that_poses_as_a_verifier_counts_without_matchers_only(prometheus: PrometheusServer) -> None:
    """The matchers name what Prometheus itself says of a target."""
    edges = 'job=~"crowd|poses as verifier"'
    told = [(await seen(prometheus, edges, verifiers)).pool["verifiers"].value for verifiers in ('job="verifiers"', "")]
    assert told == [2.0, 3.0]


async def test_a_class_without_a_sane_edge_has_no_inputs(prometheus: PrometheusServer) -> None:
    inputs = await seen(prometheus, 'job=~"nan|negative"')
    assert all(missing(c, inputs.pool, 1e9) for c in inputs.classes.values())
