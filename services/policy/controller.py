"""The controller: ``observe`` what was collected, ``decide`` the knobs of each device class. Pure: no clock, no I/O.

A class whose inputs are missing, stale or absurd keeps its setting; after ``hold_seconds`` it gets the safe one. Whatever comes
in, knobs never leave their bounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from services.common.drift.adaptive import MOST_GAMMA
from services.common.policy_record import MOST_CLASSES
from services.policy import choose as choosing
from services.policy import inputs as sensing
from services.policy.budgets import PRIORITY, Budgets
from services.policy.choose import Asked, Chosen
from services.policy.damping import Calm, Knobs
from services.policy.decision import Decision, Override, Source
from services.policy.estimate import ClassModel, Grid
from services.policy.inputs import Inputs
from services.policy.model import Edge
from services.policy.pool import Pool, load_of

LEAST_PASS_SECONDS = 1e-4
FORGET_SECONDS = 900.0  # without any input of a class that was not there from the start
LEAST_TOLD = 0.01  # share of the pool's rounds that a decision rests on
PREDICTED = ("tokens_per_second", "rounds_per_second", "damage", "upload_rate")


@dataclass(frozen=True)
class Bounds:
    """Between which the knobs stay, and the safe setting among them."""

    k_max: int = 8
    gamma_min: float = 0.0
    gamma_max: float = MOST_GAMMA
    gamma_step: float = 0.02
    safe_k: int = 4
    safe_gamma: float = MOST_GAMMA

    def grid(self) -> Grid:
        steps = max(1, round((self.gamma_max - self.gamma_min) / self.gamma_step))
        return Grid(np.linspace(self.gamma_min, self.gamma_max, steps + 1), np.arange(1.0, self.k_max + 1.0))

    def clip(self, k: int, gamma: float) -> tuple[int, float]:
        """Inside of them. ``k`` 0 (stay local) is for an answer to ask, never for a policy: nothing could be measured."""
        gamma = gamma if math.isfinite(gamma) else self.safe_gamma
        return min(max(int(k), 1), self.k_max), min(max(gamma, self.gamma_min), self.gamma_max)


@dataclass(frozen=True)
class Plan:
    """How the loop runs. ``window_seconds``, ``fast_seconds``: of rates, and of those that must see a drift;
    ``oldest_seconds``: of a reading that is used; ``hold_seconds``: without inputs before the safe setting."""

    bounds: Bounds = field(default_factory=Bounds)
    budgets: Budgets = field(default_factory=Budgets)
    calm: Calm = field(default_factory=Calm)
    edge: Edge = field(default_factory=Edge)
    quality: float = 0.01
    window_seconds: float = 20.0
    fast_seconds: float = 10.0
    smooth_seconds: float = 15.0
    oldest_seconds: float = 20.0
    hold_seconds: float = 60.0
    apply_seconds: float = 1.0  # from publishing to the rounds of most edges
    idle_watts: float = 0.0  # of a verifier
    alert_after: int = 3  # decisions in a row that find a budget infeasible before it is told


@dataclass
class _Class:
    model: ClassModel
    knobs: Knobs
    whole: bool = False
    missing: list[str] = field(default_factory=list)
    missing_since: float | None = None
    log: dict[str, tuple[float, float]] = field(default_factory=dict)
    gamma_bound: float = math.inf
    infeasible: dict[str, int] = field(default_factory=dict)  # decisions in a row


class Controller:
    """``classes``: device classes that get a decision from the start; others join when they are first seen."""

    def __init__(self, plan: Plan, classes: tuple[str, ...] = ("default",)) -> None:
        self.plan = plan
        self._grid = plan.bounds.grid()
        self._first = frozenset(classes)
        self._classes: dict[str, _Class] = {}
        self._pool: Pool | None = None
        self._pool_readings: dict[str, float] = {}
        self._price = 0.0
        self._began: float | None = None
        for name in classes:
            self._join(name)

    def _join(self, name: str) -> _Class:
        plan = self.plan
        if name not in self._classes:
            model = ClassModel(
                self._grid,
                plan.edge,
                window_seconds=plan.window_seconds,
                fast_seconds=plan.fast_seconds,
                smooth_seconds=plan.smooth_seconds,
            )
            k, gamma = plan.bounds.clip(plan.bounds.safe_k, plan.bounds.safe_gamma)
            self._classes[name] = _Class(model, Knobs(k, gamma))
        return self._classes[name]

    def resume(self, name: str, k: int, gamma: float, now: float) -> None:
        """Go on from what a publisher before this one has set."""
        found = self._join(name)
        found.knobs.put(*self.plan.bounds.clip(k, gamma), now)
        found.model.in_force.add(now, found.knobs.k, found.knobs.gamma)

    @property
    def price(self) -> float:
        return self._price

    # -- observing ----------------------------------------------------------------------------------------------------

    def observe(self, inputs: Inputs) -> None:
        """Take in one collection."""
        now, oldest = inputs.now, self.plan.oldest_seconds
        self._began = now if self._began is None else self._began
        pool = sensing.sane(inputs.pool, oldest)
        self._forget(inputs)
        for name in inputs.classes:
            if name in self._classes or len(self._classes) < MOST_CLASSES:
                self._join(name)
        for name, one in self._classes.items():
            seen = inputs.classes.get(name, sensing.ClassInputs())
            own = sensing.sane(seen.readings, oldest)
            one.missing = sensing.missing(seen, inputs.pool, oldest)
            one.whole = not one.missing
            one.log = {n: (r.value, r.age_seconds) for n, r in {**pool, **own}.items()}
            one.gamma_bound = own["gamma_bound"].value if "gamma_bound" in own else math.inf
            if not one.whole:
                one.missing_since = now if one.missing_since is None else one.missing_since
            elif seen.scores is not None:
                one.missing_since = None
                one.model.observe(now, own, seen.scores)
        if all(name in pool for name in sensing.NEEDED_OF_POOL):
            self._see_pool({name: r.value for name, r in pool.items()})

    def _forget(self, inputs: Inputs) -> None:
        """A class that nobody has reported for long: names that an edge makes up must not fill the record."""
        for name, one in list(self._classes.items()):
            away = inputs.now - one.missing_since if one.missing_since is not None else 0.0
            if name not in inputs.classes and name not in self._first and away > FORGET_SECONDS:
                del self._classes[name]

    def _see_pool(self, pool: dict[str, float]) -> None:
        """The pool's pass time, from what the rounds said; its load, from its busy share or from what the rounds make."""
        models = [c.model for c in self._classes.values() if c.whole]
        rounds, told = pool["verdicts_per_second"], sum(m.readings["rounds_per_second"] for m in models)
        said = sum(m.readings["rounds_per_second"] * m.readings.get("verify_seconds", 0.0) for m in models)
        then = max(1.0, pool.get("verifiers_mean", pool["verifiers"]))
        load = load_of(min(pool["utilisation"], 1.0))
        if rounds > 0.0 and load > 0.0:
            # What a round costs the pool: by its load, which counts passes that rounds share, or where it is full by the pass.
            seconds = load * then / rounds if pool["utilisation"] < 0.97 else said / max(told, 1e-9)
            seconds = max(seconds, LEAST_PASS_SECONDS)
        else:
            seconds = self._pool.pass_seconds if self._pool is not None else LEAST_PASS_SECONDS
        busy = pool.get("watts", 0.0) / then
        working = min(max(pool["utilisation"], 0.02), 1.0)
        full = self.plan.idle_watts + max(0.0, busy - self.plan.idle_watts) / working
        share = min(1.0, max(LEAST_TOLD, told / rounds)) if rounds > 0.0 and told > 0.0 else 1.0
        self._pool = Pool(max(pool["verifiers"], 0.0), seconds, load, self.plan.idle_watts, full, share)
        self._pool_readings = pool

    # -- deciding -----------------------------------------------------------------------------------------------------

    def decide(self, now: float, overrides: Mapping[str, Override] | None = None) -> dict[str, Decision]:
        """The knobs of every class. ``overrides`` by class; those whose time is over do not count."""
        ready = {name: c.model for name, c in self._classes.items() if c.whole}
        pool = self._pool
        chosen: dict[str, Chosen] = {}
        broken = False
        if ready and pool is not None and pool.verifiers > 0.0:
            bounds = {name: self._classes[name].gamma_bound for name in ready}
            asked = Asked(self.plan.budgets, self.plan.quality, bounds)
            outcome = choosing.choose(ready, pool, asked, self._price)
            self._price, chosen = outcome.price, outcome.classes
            broken = self._now_broken(chosen, pool)
        out = {}
        for name, one in self._classes.items():
            override = (overrides or {}).get(name)
            if override is not None and override.expires_at > now:
                out[name] = self._overridden(name, one, override, now)
            elif name in chosen:
                out[name] = self._controlled(name, one, chosen[name], now, broken)
            else:
                out[name] = self._held(name, one, now)
            one.model.in_force.add(now + self.plan.apply_seconds, out[name].k, out[name].gamma)
        return out

    def _now_broken(self, chosen: Mapping[str, Chosen], pool: Pool) -> bool:
        """Whether the pool's budgets are broken, as measured or as the settings in force will have it."""
        budgets, seen = self.plan.budgets, self._pool_readings
        rounds = 0.0
        for name, c in chosen.items():
            one = self._classes[name]
            rounds += float(c.rounds[self._grid.cell(one.knobs.k, one.knobs.gamma)])
        caps = choosing.load_cap(pool, {}, budgets)
        expected = pool.load_from(rounds) > 1.05 * min(caps.values(), default=math.inf)
        busy = budgets.utilisation is not None and seen["utilisation"] > budgets.utilisation
        hot = budgets.watts is not None and seen.get("watts", 0.0) > budgets.watts
        p95 = [self._classes[n].model.readings.get("round_trip_p95_seconds", 0.0) for n in chosen]
        slow = budgets.round_trip_seconds is not None and max(p95, default=0.0) > budgets.round_trip_seconds
        return expected or busy or hot or slow

    def _controlled(self, name: str, one: _Class, chosen: Chosen, now: float, broken: bool) -> Decision:
        old = (one.knobs.k, one.knobs.gamma)
        g, i = chosen.cell
        k, gamma = int(self._grid.ks[i]), float(self._grid.gammas[g])
        here = self._grid.cell(*old)
        gain = float(chosen.utility[chosen.cell] - chosen.utility[here])
        helps = float(chosen.rounds[chosen.cell]) < (1.0 - self.plan.calm.band) * float(chosen.rounds[here])
        breaches = {
            "risk limit": self._risky(chosen, here) and gamma < old[1],
            "pool budget": broken and helps,
            "energy budget": self._energy_broken(chosen, here) and chosen.cell != here,
        }
        urgent = any(breaches.values())
        kept = one.knobs.move(k, gamma, now, self.plan.calm, gain=gain, urgent=urgent)
        one.infeasible = {name: one.infeasible.get(name, 0) + 1 for name in chosen.infeasible}
        reason = "; ".join(name for name, holds in breaches.items() if holds) or f"goodput {gain:+.3f}"
        if kept:
            reason = f"stays: {kept} ({reason})"
        return self._decision(name, one, Source.CONTROL, reason, old, chosen)

    def _told(self, one: _Class) -> tuple[str, ...]:
        """Budgets that have been infeasible for long enough, the weightiest first."""
        lasting = [name for name, times in one.infeasible.items() if times >= self.plan.alert_after]
        return tuple(sorted(lasting, key=PRIORITY.index))

    def _risky(self, chosen: Chosen, here: tuple[int, int]) -> bool:
        """Whether the setting in force does more damage than it may: what lies between that and the aim is for noise."""
        return float(chosen.predicted.damage[here]) > self.plan.budgets.damage

    def _energy_broken(self, chosen: Chosen, here: tuple[int, int]) -> bool:
        joules, budget = chosen.predicted.joules_per_token, self.plan.budgets.joules_per_token
        return joules is not None and budget is not None and float(joules[here]) > budget

    def _held(self, name: str, one: _Class, now: float) -> Decision:
        """Nothing to go by: keep the setting, later the safe one."""
        old = (one.knobs.k, one.knobs.gamma)
        since = one.missing_since if one.missing_since is not None else self._began
        waited = now - since if since is not None else math.inf
        lacks = ", ".join(one.missing) or "the pool's state"
        if waited < self.plan.hold_seconds:
            return self._decision(name, one, Source.HOLD, f"held for {waited:.0f} s: no {lacks}", old, None)
        bounds = self.plan.bounds
        safe = bounds.clip(bounds.safe_k, bounds.safe_gamma)
        if safe != old:
            one.knobs.put(*safe, now)
        return self._decision(name, one, Source.SAFE, f"safe setting: no {lacks}", old, None)

    def _overridden(self, name: str, one: _Class, override: Override, now: float) -> Decision:
        old = (one.knobs.k, one.knobs.gamma)
        wanted = self.plan.bounds.clip(override.k, override.gamma)
        if wanted != old:
            one.knobs.put(*wanted, now)
        left = override.expires_at - now
        reason = f"set by hand for another {left:.0f} s" + (f": {override.reason}" if override.reason else "")
        return self._decision(name, one, Source.OVERRIDE, reason, old, None)

    def _decision(
        self, name: str, one: _Class, source: Source, reason: str, old: tuple[int, float], chosen: Chosen | None
    ) -> Decision:
        predicted: dict[str, float] = {}
        if chosen is not None:
            here = self._grid.cell(one.knobs.k, one.knobs.gamma)
            p = chosen.predicted
            predicted = {n: float(getattr(p, n)[here]) for n in PREDICTED}
        return Decision(
            device_class=name,
            k=one.knobs.k,
            gamma=round(one.knobs.gamma, 6),
            reason=reason,
            source=source,
            gamma_max=chosen.gamma_max if chosen is not None else self.plan.bounds.gamma_max,
            infeasible=self._told(one),
            old=(old[0], round(old[1], 6)),
            price=self._price,
            predicted=predicted,
            inputs=one.log,
        )
