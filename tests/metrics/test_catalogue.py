"""The catalogue itself, and that services count in its words."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest

from services.common.catalogue import ALL, Service, edge, owned_by, policy, shared, verifier
from services.common.catalogue.metric import OTHER, Kind, Label
from services.common.drift.monitor import State as DriftState
from services.common.energy.counter import JoulesCounter
from services.common.energy.meter import Source as EnergySource
from services.common.messages import Status
from services.common.meters import Meters
from services.common.outage import Link
from services.common.policy_reader import VERDICT_SECONDS, PolicyReader
from services.common.telemetry import Telemetry
from services.edge_worker.answer import Decision
from services.edge_worker.breaker import State as BreakerState
from services.edge_worker.energy import DRAFT, WAIT
from services.edge_worker.metrics import DriftMetrics, EdgeMetrics, KnobMetrics
from services.edge_worker.uplink import UplinkMeter
from services.policy import queries
from services.policy.budgets import PRIORITY
from services.policy.decision import Source
from services.verifier.metrics import VerifierMetrics
from tests.metrics.exposition import complaints

SERVICES = Path(__file__).parents[2] / "services"
MOST_SERIES = 400  # of one metric of one process, histograms' buckets included


def test_names_are_unique_and_say_their_unit() -> None:
    names = [m.name for m in ALL]
    assert len(names) == len(set(names))
    for m in ALL:
        assert re.fullmatch(r"sluice_[a-z0-9_]+", m.name), m.name
        assert not m.name.endswith(("_total", "_count", "_sum", "_bucket")), m.name
        for unit in ("seconds", "bytes", "joules"):
            assert (m.unit == unit) == (unit in m.name.split("_")), m.name
        assert m.help, m.name
        assert not m.help.endswith("."), m.name
        assert m.owners, m.name
        assert bool(m.buckets) == (m.kind is Kind.HISTOGRAM), m.name
        assert list(m.buckets) == sorted(set(m.buckets)), m.name


def test_every_label_is_bounded() -> None:
    for m in ALL:
        series = len(m.buckets) + 3 if m.buckets else 1
        for label in m.labels:
            assert label.values or label.bound, f"{m.name}: {label.name}"
            assert len(set(label.values)) == len(label.values)
            series *= len(label.values) or 1
        assert series <= MOST_SERIES, m.name


def test_labels_have_the_values_that_the_code_has() -> None:
    assert edge.DECISION.values == tuple(Decision)
    assert edge.BREAKER.values == tuple(BreakerState)
    assert edge.DRIFT.values == tuple(DriftState)
    assert set(verifier.STATUS.values) == set(Status)
    assert set(shared.REFUSALS) == set(Status) - {Status.OK}
    assert policy.BUDGET.values == PRIORITY
    assert shared.SOURCE.values == tuple(EnergySource)
    assert policy.SOURCE.values == tuple(Source)


def test_no_service_writes_a_name_of_its_own() -> None:
    """Names stand in the catalogue; the rest of the code takes them from there."""
    known = {name for m in ALL for name in (m.name, *m.samples)}
    written = [
        f"{path.relative_to(SERVICES)}: {name}"
        for path in SERVICES.rglob("*.py")
        if "catalogue" not in path.parts
        for name in re.findall(r'"(sluice_[a-z_]+)"', path.read_text())
        if name in known
    ]
    assert written == []


def test_the_controllers_queries_ask_for_what_is_counted() -> None:
    fleet = queries.Fleet()
    asked_for = (queries.left_out(fleet), queries.of_class(fleet, 1.0), queries.of_pool(fleet), queries.scores(fleet))
    every = "\n".join([text for texts in asked_for for text in texts.values()])
    asked = set(re.findall(r"sluice_\w+", every))
    assert len(asked) > 10
    assert asked <= {name for m in ALL for name in m.samples}


def test_an_edge_workers_metrics_are_those_of_the_catalogue() -> None:
    telemetry = Telemetry()
    metrics = EdgeMetrics(telemetry.registry)
    DriftMetrics(telemetry.registry, "phone")
    JoulesCounter(telemetry.registry, (DRAFT, WAIT))
    KnobMetrics(telemetry.registry, "phone", k=4, gamma=1.0, policy=None)
    UplinkMeter(dict, telemetry.registry)
    metrics.lost("a cause that nobody has thought of")
    telemetry.link("kafka", up=True)
    assert complaints(generate_latest(telemetry.registry).decode(), Service.EDGE) == []
    lost = telemetry.registry.get_sample_value("sluice_lost_rounds_total", {"cause": OTHER})
    assert lost == 1.0


def test_a_difference_is_found() -> None:
    telemetry = Telemetry()
    metrics = VerifierMetrics(telemetry.registry)
    JoulesCounter(telemetry.registry, ())
    assert complaints(generate_latest(telemetry.registry).decode(), Service.VERIFIER) == []
    Counter("sluice_extra", "Not in it.", registry=telemetry.registry)
    metrics.over_budget.labels("invented").inc()
    found = complaints(generate_latest(telemetry.registry).decode(), Service.VERIFIER)
    assert found == ["sluice_extra is not in the catalogue", "sluice_over_budget: scope=invented"]
    assert "sluice_tokens is missing" in complaints("", Service.EDGE)


def test_a_counter_begins_at_zero_and_kinds_are_kept() -> None:
    registry = CollectorRegistry()
    meters = Meters(registry)
    meters.counter(edge.TOKENS)
    assert registry.get_sample_value("sluice_tokens_total", {"decision": "bonus"}) == 0.0
    with pytest.raises(TypeError, match="is a gauge, not a counter"):
        meters.counter(edge.SESSIONS)
    assert "_created" not in generate_latest(registry).decode()
    shown = VerifierMetrics(CollectorRegistry()).tokens
    with pytest.raises(KeyError):
        shown.labels("invented")


def test_joules_begin_at_zero_where_they_are_counted_and_are_told_of_in_any_case() -> None:
    registry, nobody = CollectorRegistry(), CollectorRegistry()
    JoulesCounter(registry, (DRAFT, WAIT))
    JoulesCounter(nobody, ())
    shown = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    assert sorted(line.split()[0].split('"')[1] for line in shown) == [DRAFT, DRAFT, WAIT, WAIT]
    assert "# TYPE sluice_energy_joules_total counter" in generate_latest(nobody).decode()
    assert nobody.get_sample_value("sluice_energy_joules_total", {"component": "idle", "source": "estimated"}) is None


def test_the_knobs_are_those_of_the_policy_while_it_is_in_force() -> None:
    now = [0.0]
    registry, policy = CollectorRegistry(), PolicyReader(lambda: now[0])
    KnobMetrics(registry, "phone", k=4, gamma=1.0, policy=policy)

    def shown() -> list[float | None]:
        names = ("knob_k", "knob_gamma", "policy_followed")
        return [registry.get_sample_value(f"sluice_{name}", {"device_class": "phone"}) for name in names]

    assert shown() == [4.0, 1.0, 0.0]
    policy.saw("phone", 2, 0.5, 7)
    assert shown() == [2.0, 0.5, 7.0]
    now[0] = VERDICT_SECONDS + 1.0
    assert shown() == [4.0, 1.0, 0.0]


def test_links_are_told() -> None:
    telemetry = Telemetry()
    link = Link("redis", telemetry)
    values = [telemetry.registry.get_sample_value("sluice_link_up", {"link": "redis"})]
    for change in (link.good, lambda: link.bad("gone"), link.good):
        change()
        values.append(telemetry.registry.get_sample_value("sluice_link_up", {"link": "redis"}))
    assert values == [0.0, 1.0, 0.0, 1.0]


def test_the_catalogue_is_light() -> None:
    """In an interpreter of its own: neither torch nor the client library comes with it."""
    code = "import sys, services.common.catalogue; print([m for m in ('torch', 'prometheus_client') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_label_never_grows_by_what_an_error_says() -> None:
    assert Label("cause", ("a", OTHER)).of("b") == OTHER
    assert edge.CAUSE.of("deadline") == "deadline"
    assert all(OTHER in label.values for label in (edge.CAUSE, edge.POSITION, policy.FAILURE))
    assert {m.name for m in owned_by(Service.POLICY)} & {m.name for m in owned_by(Service.EDGE)} == {
        "sluice_link_up",
        "sluice_loop_lag_seconds",
    }
