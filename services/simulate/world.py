"""The fleet, stepped in time: devices that draft and ask, links, a pool of verifiers with measured pass times. Seeded.

Several settings can be tried at once on fleets of the same size: every array has a leading axis of ``fleets``. Times are
continuous; the steps only bound when a pass can begin.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt

from services.common.catalogue import edge as catalogue
from services.common.rng import Floats
from services.simulate.fleet import Conditions, DeviceClass, PoolSpec
from services.simulate.rounds import ALL_KEPT, AUDIT, CANDIDATES, DRAFTED, FIELDS, KEPT, Tables

Ints = npt.NDArray[np.int64]
DRAFTING, UP, QUEUED, PASS, DOWN, OFF = range(6)

RTT_EDGES = np.array([0.0, *catalogue.ROUND_TRIP.buckets])


@dataclass
class Counters:
    """Sums since the start. By fleet and class ``[fleets, classes]``, of the pool ``[fleets]``; ``round_trips`` and ``scores``
    have their bins last (``scores`` of the first fleet only, ``[classes, 5, bins]``)."""

    answered: Floats
    unverified: Floats
    drafted: Floats
    rounds: Floats
    audit: Floats  # as the verifiers report it
    true_audit: Floats  # with answers that nobody was asked about
    round_trip: Floats
    queue: Floats
    verify: Floats
    drafting_joules: Floats
    asking_joules: Floats
    draft_steps_seconds: Floats
    round_trips: Floats
    busy: Floats
    joules: Floats
    scores: Floats

    @staticmethod
    def zero(fleets: int, classes: int, bins: int) -> Counters:
        shapes: dict[str, tuple[int, ...]] = {f.name: (fleets, classes) for f in fields(Counters)}
        shapes |= {"round_trips": (fleets, classes, len(RTT_EDGES)), "busy": (fleets,), "joules": (fleets,)}
        shapes["scores"] = (classes, 5, bins)
        return Counters(**{name: np.zeros(shape) for name, shape in shapes.items()})

    def copy(self) -> Counters:
        return Counters(**{name: value.copy() for name, value in vars(self).items()})


@dataclass
class World:
    """``settings`` ``[fleets, classes, 2]``: k and level of gamma, taken at the begin of each round."""

    classes: list[DeviceClass]
    pool: PoolSpec
    tables: Tables
    step_seconds: float  # of drafting one token
    hit: float
    fleets: int
    conditions: Conditions
    seed: int
    deadline_seconds: float = 2.0
    dt: float = 0.04
    now: float = 0.0
    settings: Ints = field(init=False)

    def __post_init__(self) -> None:
        n = sum(c.devices for c in self.classes)
        self._class = np.repeat(np.arange(len(self.classes)), [c.devices for c in self.classes])
        shape = (self.fleets, n)
        self._draws = np.random.default_rng([self.seed, 77])
        self._step = np.array([c.slowness * self.step_seconds for c in self.classes])[self._class]
        self._half = np.array([c.rtt_seconds / 2 for c in self.classes])[self._class]
        self._jitter = np.array([c.jitter_seconds / 2 for c in self.classes])[self._class]
        self._watts = np.array([[c.draft_watts, c.idle_watts] for c in self.classes])
        self._radio = np.array([[c.round_joules, c.candidate_joules] for c in self.classes])
        self._phase = np.full(shape, OFF, dtype=np.int64)
        self._due, self._sent = np.zeros(shape), np.zeros(shape)
        self._arrived, self._began = np.zeros(shape), np.zeros(shape)
        self._row = np.zeros((*shape, len(FIELDS)))
        self._place = np.zeros(shape, dtype=np.int64)  # of the row in its table, for scores
        self._text = np.zeros(shape, dtype=np.int64)  # kind and level of the round, as one number
        self._home = np.tile(np.arange(n) % self.pool.verifiers, (self.fleets, 1))
        self._free = np.zeros((self.fleets, self.pool.verifiers))
        self._moved_at = 0.0
        self._homes = self.pool.verifiers
        self.settings = np.zeros((self.fleets, len(self.classes), 2), dtype=np.int64)
        self.counters = Counters.zero(self.fleets, len(self.classes), len(self.tables.edges) - 1)
        first = np.cumsum([0, *(c.devices for c in self.classes)])[:-1]
        self._rank = np.arange(n) - first[self._class]

    # -- time ---------------------------------------------------------------------------------------------------------

    def run(self, until: float) -> None:
        while self.now < until - 1e-9:
            self._advance()

    def _advance(self) -> None:
        now = self.now = self.now + self.dt
        self._switch()
        self._place_sessions()
        phase, due = self._phase, self._due
        ready = due <= now
        leaving = (phase == DRAFTING) & ready
        if leaving.any():
            self._send(leaving)
        arriving = (phase == UP) & (due <= now)
        phase[arriving] = QUEUED
        self._arrived[arriving] = due[arriving]
        self._serve(now)
        done = (phase == PASS) & (due <= now)
        if done.any():
            phase[done] = DOWN
            due[done] += self._link(done)
        back = (phase == DOWN) & (due <= now)
        if back.any():
            self._verdict(back)
        waiting = (phase == UP) | (phase == QUEUED) | (phase == PASS) | (phase == DOWN)
        late = waiting & (now - self._sent > self.deadline_seconds)
        if late.any():
            self._lost(late)
        self._spend()

    def _switch(self) -> None:
        on = self._rank < np.array(self.conditions.active)[self._class]
        waking = on[None, :] & (self._phase == OFF)
        if waking.any():
            self._due[waking] = self.now - self._draws.random(int(waking.sum())) * 0.05
            self._begin(waking, np.zeros(int(waking.sum())), None)
        self._on = on

    def _place_sessions(self) -> None:
        """A dead verifier's sessions wait until their partitions have moved; joining ones take theirs at once."""
        alive = self.conditions.alive
        if alive != self._homes:
            if self._moved_at <= 0.0:
                self._moved_at = self.now + (self.pool.moving_seconds if alive < self._homes else 1.0)
            if self.now >= self._moved_at:
                self._home[:] = np.arange(self._home.shape[1]) % max(alive, 1)
                self._homes, self._moved_at = alive, 0.0

    # -- what happens to a round --------------------------------------------------------------------------------------

    def _begin(self, who: npt.NDArray[np.bool_], waited: Floats, kept: Floats | None) -> None:
        """Draw the next round of ``who`` and draft it. ``waited``: seconds that could be used for drafting ahead; ``kept``: 1
        where everything was accepted."""
        fleet, device = np.nonzero(who)
        klass = self._class[device]
        settings = self.settings[fleet, klass]
        kind = self.conditions.kind
        out, places = self.tables.draw(kind, settings[:, 0], settings[:, 1], self._draws.random(len(fleet)))
        self._row[fleet, device], self._place[fleet, device] = out, places
        self._text[fleet, device] = kind * len(self.tables.gammas) + settings[:, 1]
        drafting = out[:, DRAFTED] * self._step[device]
        ahead = np.minimum(waited, drafting)
        hits = np.zeros(len(fleet)) if kept is None else kept * (self._draws.random(len(fleet)) < self.hit)
        watts, idle = self._watts[klass].T
        spent = (drafting + ahead * (1.0 - hits)) * watts + (waited - ahead) * idle
        self._add(self.counters.drafting_joules, fleet, klass, spent)
        self._add(self.counters.drafted, fleet, klass, out[:, DRAFTED])
        self._add(self.counters.draft_steps_seconds, fleet, klass, drafting)
        self._due[fleet, device] += drafting - ahead * hits
        self._phase[fleet, device] = DRAFTING

    def _link(self, who: npt.NDArray[np.bool_]) -> Floats:
        _, device = np.nonzero(who)
        out: Floats = self._half[device] + self._draws.exponential(size=len(device)) * self._jitter[device]
        return out

    def _send(self, leaving: npt.NDArray[np.bool_]) -> None:
        local = leaving & (self._row[:, :, CANDIDATES] == 0)
        if local.any():
            fleet, device = np.nonzero(local)
            klass, row = self._class[device], self._row[fleet, device]
            self._add(self.counters.answered, fleet, klass, row[:, DRAFTED])
            self._add(self.counters.true_audit, fleet, klass, row[:, AUDIT])
            self._go_on(local, np.zeros(len(fleet)), None)
        asking = leaving & ~local
        self._phase[asking] = UP
        self._sent[asking] = self._due[asking]
        self._due[asking] += self._link(asking)
        fleet, device = np.nonzero(asking)
        klass = self._class[device]
        joules = self._radio[klass]
        self._add(self.counters.asking_joules, fleet, klass, joules[:, 0] + joules[:, 1] * self._row[fleet, device, CANDIDATES])

    def _serve(self, now: float) -> None:
        queued = self._phase == QUEUED
        if not queued.any():
            return
        a, b, c = self.pool.line
        for v in range(self.conditions.alive):
            mine = queued & (self._home == v) & (self._free[:, v] <= now)[:, None]
            counts = mine.sum(axis=1)
            for f in np.flatnonzero(counts > self.pool.most_sessions):
                devices = np.flatnonzero(mine[f])
                oldest = np.argsort(self._arrived[f, devices], kind="stable")
                mine[f, devices[oldest[self.pool.most_sessions :]]] = False
            sessions = np.minimum(counts, self.pool.most_sessions)
            busy = sessions > 0
            if not busy.any():
                continue
            span = np.where(mine, self._row[:, :, DRAFTED] + 1.0, 0.0).max(axis=1)
            seconds = np.where(busy, a + b * sessions + c * sessions * span, 0.0)
            # A free verifier began when the first round came, not at the end of the step.
            first = np.where(mine, self._arrived, np.inf).min(axis=1)
            begin = np.where(busy, np.maximum(np.maximum(first, self._free[:, v]), now - self.dt), 0.0)
            self._free[busy, v] = (begin + seconds)[busy]
            self.counters.busy += seconds
            self._phase[mine] = PASS
            fleet, _ = np.nonzero(mine)
            self._began[mine] = np.maximum(begin[fleet], self._arrived[mine])
            self._due[mine] = (begin + seconds)[fleet]

    def _verdict(self, back: npt.NDArray[np.bool_]) -> None:
        fleet, device = np.nonzero(back)
        klass, row, c = self._class[device], self._row[fleet, device], self.counters
        trip = self._due[fleet, device] - self._sent[fleet, device]
        self._add(c.answered, fleet, klass, row[:, KEPT] + 1.0)
        self._add(c.rounds, fleet, klass, np.ones(len(fleet)))
        self._add(c.audit, fleet, klass, row[:, AUDIT])
        self._add(c.true_audit, fleet, klass, row[:, AUDIT])
        self._add(c.round_trip, fleet, klass, trip)
        self._add(c.queue, fleet, klass, np.maximum(0.0, self._began[fleet, device] - self._arrived[fleet, device]))
        np.add.at(c.round_trips, (fleet, klass, np.searchsorted(RTT_EDGES, trip, side="left").clip(1, len(RTT_EDGES) - 1)), 1.0)
        verify = self._due[fleet, device] - self._began[fleet, device] - self._half[device] - self._jitter[device]
        self._add(c.verify, fleet, klass, np.maximum(0.0, verify))
        if self.fleets == 1:
            self._score(device, klass)
        self._go_on(back, trip, row[:, ALL_KEPT])

    def _add(self, to: Floats, fleet: Ints, klass: Ints, values: Floats) -> None:
        """``to`` ``[fleets, classes]`` gets ``values`` added where they belong."""
        flat = np.bincount(fleet * to.shape[1] + klass, weights=values, minlength=to.size)
        to += flat.reshape(to.shape)

    def _score(self, device: Ints, klass: Ints) -> None:
        text = self._text[0, device]
        for c, kind_level in {*zip(klass.tolist(), text.tolist(), strict=True)}:
            mine = self._place[0, device[(klass == c) & (text == kind_level)]]
            scorer = self.tables.scorer(*divmod(kind_level, len(self.tables.gammas)))
            self.counters.scores[c] += scorer.of(self.tables.places[mine])

    def _lost(self, late: npt.NDArray[np.bool_]) -> None:
        """The deadline passed: everything drafted stays, its candidates unverified."""
        fleet, device = np.nonzero(late)
        klass, row, c = self._class[device], self._row[fleet, device], self.counters
        self._add(c.answered, fleet, klass, row[:, DRAFTED])
        self._add(c.unverified, fleet, klass, row[:, CANDIDATES])
        self._due[late] = self._sent[late] + self.deadline_seconds
        self._go_on(late, np.full(len(fleet), self.deadline_seconds), None)

    def _go_on(self, who: npt.NDArray[np.bool_], waited: Floats, kept: Floats | None) -> None:
        on = who & self._on[None, :]
        self._phase[who & ~on] = OFF
        stay = on[who]
        if stay.any():
            self._begin(on, waited[stay], None if kept is None else kept[stay])

    def _spend(self) -> None:
        busy = (self._free[:, : self.conditions.alive] > self.now).sum(axis=1)
        alive = self.conditions.alive
        self.counters.joules += self.dt * (alive * self.pool.idle_watts + busy * (self.pool.busy_watts - self.pool.idle_watts))
