"""Runs a scenario under the policy's own controller, or under fixed settings. Seeded, no clock but the world's."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np

from services.common.catalogue.edge import SCORE_EDGES
from services.common.drift.adaptive import MOST_GAMMA
from services.common.rng import Floats
from services.policy.budgets import Budgets
from services.policy.controller import Bounds, Controller, Plan
from services.policy.decision import Decision
from services.policy.model import Edge
from services.simulate.profile import Profile
from services.simulate.rounds import Stream, Tables
from services.simulate.scenarios import Scenario
from services.simulate.sensors import Sensors
from services.simulate.world import World

SAMPLE_SECONDS = 1.0
SCRAPE_SECONDS = 5.0
DECIDE_SECONDS = 5.0
POLL_AFTER = 1.0  # a collection comes this long after a scrape
PUBLISH_SECONDS = 0.5  # from decision to edges
BINS = np.array(SCORE_EDGES)
LEVEL = 0.02


@dataclass(frozen=True)
class Sample:
    """Cumulative figures of the world at one second, of each fleet: by class ``[fleets, classes]``, of the pool
    ``[fleets]``."""

    at: float
    answered: Floats
    good: Floats
    true_audit: Floats
    joules: Floats
    busy: Floats
    pool_joules: Floats
    round_trips: Floats
    alive: int
    settings: Floats  # [fleets, classes, 2]: k, gamma


@dataclass(frozen=True)
class Trace:
    """What a run left. ``budgets`` by the second from which they hold; ``decisions`` of the controller, none for fixed runs."""

    scenario: Scenario
    samples: list[Sample]
    budgets: list[tuple[float, Budgets]]
    decisions: list[tuple[float, dict[str, Decision]]]


def levels() -> Floats:
    """The gammas that the world knows: no edge follows a policy beyond the last one."""
    out: Floats = np.round(np.arange(0.0, MOST_GAMMA + LEVEL / 2, LEVEL), 3)
    return out


def tables(profile: Profile, scenario: Scenario, seed: int) -> Tables:
    stream = Stream.of(profile, seed)
    return Tables([stream, stream.drifted(scenario.drift)], levels(), BINS, seed)


def world(profile: Profile, scenario: Scenario, made: Tables, fleets: int, seed: int) -> World:
    return World(
        classes=list(scenario.classes),
        pool=scenario.pool,
        tables=made,
        step_seconds=profile.step_seconds,
        hit=profile.hit,
        fleets=fleets,
        conditions=copy.deepcopy(scenario.start),
        seed=seed,
        deadline_seconds=scenario.deadline_seconds,
    )


def plan(profile: Profile, scenario: Scenario) -> Plan:
    """The service's defaults with the scenario's budgets and the profile's threshold."""
    idle = scenario.pool.idle_watts
    return Plan(bounds=Bounds(), budgets=scenario.budgets, edge=Edge(tau_u=profile.tau_u), idle_watts=idle)


def controlled(profile: Profile, scenario: Scenario, seed: int = 1, made: Tables | None = None) -> Trace:
    """Under the controller, which sees what ``Sensors`` show and whose decisions take ``PUBLISH_SECONDS``."""
    made = made or tables(profile, scenario, seed)
    fleet = world(profile, scenario, made, 1, seed)
    names = [c.name for c in scenario.classes]
    controller = Controller(plan(profile, scenario), tuple(names))
    sensors = Sensors(BINS, scrape_seconds=SCRAPE_SECONDS)
    decisions: list[tuple[float, dict[str, Decision]]] = []
    first = controller.decide(0.0)
    _apply(fleet, made, names, first)
    samples, budgets, due = [], [(0.0, scenario.budgets)], list(scenario.events)
    pending: tuple[float, dict[str, Decision]] | None = None
    for second in np.arange(0.5, scenario.end + 0.25, 0.5).tolist():
        while due and due[0].at < second:
            event = due.pop(0)
            if event.change is not None:
                event.change(fleet.conditions)
            if event.prometheus is not None:
                sensors.up = event.prometheus
            if event.budgets is not None:
                budgets.append((event.at, event.budgets))
                controller.plan = replace(controller.plan, budgets=event.budgets)
        fleet.run(second)
        if pending is not None and second >= pending[0]:
            _apply(fleet, made, names, pending[1])
            pending = None
        if second % SCRAPE_SECONDS == 0.0:
            sensors.scrape(fleet, fleet.conditions)
        if second % DECIDE_SECONDS == POLL_AFTER:
            controller.observe(sensors.read(second, names))
            found = controller.decide(second)
            decisions.append((second, found))
            pending = (second + PUBLISH_SECONDS, found)
        if second % SAMPLE_SECONDS == 0.0:
            samples.append(_sample(fleet, made))
    return Trace(scenario, samples, budgets, decisions)


def _apply(fleet: World, made: Tables, names: list[str], decisions: dict[str, Decision]) -> None:
    for i, name in enumerate(names):
        fleet.settings[:, i, 0] = max(1, decisions[name].k)
        fleet.settings[:, i, 1] = made.level(decisions[name].gamma)


def fixed(profile: Profile, scenario: Scenario, settings: list[tuple[int, float]], seed: int, made: Tables) -> Trace:
    """Under each of ``settings`` at once, a fleet for each."""
    fleet = world(profile, scenario, made, len(settings), seed)
    for f, (k, gamma) in enumerate(settings):
        fleet.settings[f, :, 0], fleet.settings[f, :, 1] = k, made.level(gamma)
    samples, budgets, due = [], [(0.0, scenario.budgets)], list(scenario.events)
    for second in np.arange(1.0, scenario.end + 0.5).tolist():
        while due and due[0].at < second:
            event = due.pop(0)
            if event.change is not None:
                event.change(fleet.conditions)
            if event.budgets is not None:
                budgets.append((event.at, event.budgets))
        fleet.run(second)
        samples.append(_sample(fleet, made))
    return Trace(scenario, samples, budgets, [])


def _sample(fleet: World, made: Tables) -> Sample:
    c = fleet.counters
    settings = np.stack([fleet.settings[..., 0].astype(float), made.gammas[fleet.settings[..., 1]]], axis=-1)
    return Sample(
        fleet.now,
        c.answered.copy(),
        c.answered - c.unverified,
        c.true_audit.copy(),
        c.drafting_joules + c.asking_joules,
        c.busy.copy(),
        c.joules.copy(),
        c.round_trips.copy(),
        fleet.conditions.alive,
        settings,
    )
