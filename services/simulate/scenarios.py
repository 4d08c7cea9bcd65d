"""The scenarios: a fleet, budgets, and what happens to them at which second. Pure data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from services.policy.budgets import Budgets
from services.simulate.fleet import Conditions, DeviceClass, PoolSpec
from services.simulate.profile import Profile
from services.simulate.sizes import Sizes

WARM_SECONDS = 90.0
EVENT = 150.0
END = 330.0
PHONES = "phone"
BOARDS = "board"


@dataclass(frozen=True)
class Event:
    """At ``at`` seconds the conditions, the budgets or Prometheus change."""

    at: float
    change: Callable[[Conditions], None] | None = None
    budgets: Budgets | None = None
    prometheus: bool | None = None


@dataclass(frozen=True)
class Scenario:
    """``feasible``: whether some setting meets all budgets at any time; ``compared``: whether its goodput is held against fixed
    settings (not where nothing could be measured, or not all be met). ``drift``: factor on rejections of the second text."""

    name: str
    about: str
    classes: tuple[DeviceClass, ...]
    pool: PoolSpec
    budgets: Budgets
    start: Conditions
    events: tuple[Event, ...]
    end: float = END
    deadline_seconds: float = 2.0
    drift: float = 1.0
    feasible: bool = True
    compared: bool = True

    @property
    def disturbed_at(self) -> float:
        return self.events[0].at if self.events else WARM_SECONDS


def _devices(*active: int) -> Callable[[Conditions], None]:
    def change(conditions: Conditions) -> None:
        conditions.active[:] = active

    return change


def _verifiers(alive: int) -> Callable[[Conditions], None]:
    def change(conditions: Conditions) -> None:
        conditions.alive = alive

    return change


def _text(kind: int) -> Callable[[Conditions], None]:
    def change(conditions: Conditions) -> None:
        conditions.kind = kind

    return change


def scenarios(profile: Profile) -> dict[str, Scenario]:
    """All of them, by name. Devices draft slower than the machine of the profile; the pool is the one that was measured."""
    classes = (
        DeviceClass(PHONES, 20, slowness=4.0, rtt_seconds=0.06, jitter_seconds=0.02),
        DeviceClass(BOARDS, 10, slowness=2.0, rtt_seconds=0.02, jitter_seconds=0.005, draft_watts=12.0, idle_watts=4.0),
    )
    pool = PoolSpec(5, profile.pass_line())
    sizes = Sizes.of(profile, classes)
    budgets = Budgets(damage=sizes.damage, utilisation=0.85, round_trip_seconds=sizes.round_trip_seconds)
    base = Scenario("", "", classes, pool, budgets, Conditions([12, 4], 5), (), deadline_seconds=sizes.deadline_seconds)
    loose = replace(budgets, joules_per_token=2.0 * sizes.joules_per_token)
    return {
        s.name: s
        for s in (
            replace(
                base,
                name="load-step",
                about="five times as many devices at once",
                start=Conditions([4, 2], 5),
                events=(Event(EVENT, _devices(20, 10)),),
            ),
            replace(base, name="verifier-loss", about="two of five verifiers die", events=(Event(EVENT, _verifiers(3)),)),
            replace(
                base,
                name="energy-halved",
                about="the joules that a token may cost on the device are halved",
                budgets=loose,
                events=(Event(EVENT, budgets=replace(loose, joules_per_token=sizes.joules_per_token)),),
            ),
            replace(
                base,
                name="drift",
                about="other text: rejections become more likely at the same scores",
                drift=1.5,
                events=(Event(EVENT, _text(1)),),
            ),
            replace(
                base,
                name="infeasible",
                about="one verifier is left and the damage bound forbids what would fit it",
                start=Conditions([20, 10], 5),
                events=(Event(EVENT, _verifiers(1)),),
                feasible=False,
                compared=False,
            ),
            replace(
                base,
                name="prometheus-away",
                about="Prometheus is away for 100 seconds, and comes back",
                events=(Event(EVENT, prometheus=False), Event(EVENT + 100.0, prometheus=True)),
                compared=False,
            ),
            replace(
                base,
                name="oscillation",
                about="the load lies where two settings are equally good",
                start=Conditions([15, 6], 5),
                events=(),
            ),
        )
    }
