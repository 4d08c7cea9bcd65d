"""What is known of one device class: its readings as a model, and how far the model is off. Pure.

Readings are means over a window that lies in the past, while other settings were in force. So the model is asked what it would
have said of *those* settings, and the ratio of measured to said corrects what it says of new ones (a Smith predictor). A
correction is bounded, so that no sensor can run away with a knob.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, field

import numpy as np

from services.common.rng import Floats
from services.policy import model
from services.policy.damping import Level, Smooth
from services.policy.inputs import Reading, Scores
from services.policy.model import Edge, Rounds

MOST_CORRECTION = 3.0
MOST_DRIFT = 4.0
SURE = 3.0
ROWS = ("drafted", "audited", "audit", "judged", "refused")


@dataclass(frozen=True)
class Grid:
    """The settings that are considered: ``gammas`` ``[G]`` and ``ks`` ``[K]``, both rising."""

    gammas: Floats
    ks: Floats

    def cell(self, k: int, gamma: float) -> tuple[int, int]:
        g = int(np.argmin(np.abs(self.gammas - gamma)))
        return g, int(np.argmin(np.abs(self.ks - k)))


@dataclass
class InForce:
    """Which settings were in force when."""

    at: list[float] = field(default_factory=list)
    what: list[tuple[int, float]] = field(default_factory=list)

    def add(self, now: float, k: int, gamma: float) -> None:
        if not self.what or self.what[-1] != (k, gamma):
            self.at.append(now)
            self.what.append((k, gamma))
            del self.at[:-64], self.what[:-64]

    def shares(self, start: float, end: float) -> list[tuple[tuple[int, float], float]]:
        """Settings between ``start`` and ``end``, with the share of the time that each had."""
        if not self.what:
            return []
        first = max(0, bisect.bisect_right(self.at, start) - 1)
        found = []
        for i in range(first, len(self.what)):
            begin = start if i == first else self.at[i]
            stop = self.at[i + 1] if i + 1 < len(self.what) else end
            if min(stop, end) > max(begin, start):
                found.append((self.what[i], min(stop, end) - max(begin, start)))
        total = sum(share for _, share in found)
        return [(setting, share / total) for setting, share in found] or [(self.what[-1], 1.0)]


@dataclass(frozen=True)
class Predicted:
    """Each ``[G, K]``, corrected: of one device, tokens, rounds and joules; ``damage`` with the drift that was seen."""

    tokens_per_second: Floats
    rounds_per_second: Floats
    damage: Floats
    upload_rate: Floats
    joules_per_token: Floats | None


class ClassModel:
    """``observe`` once for each collection, then ``predict`` for any round-trip time."""

    def __init__(self, grid: Grid, edge: Edge, *, window_seconds: float, fast_seconds: float, smooth_seconds: float) -> None:
        self.grid, self.edge = grid, edge
        self.in_force = InForce()
        self._window, self._fast = window_seconds, fast_seconds
        names = ("tokens_per_second", "rounds_per_second", "upload_rate", "damage")
        self._off = {name: Smooth(smooth_seconds * (2.0 if name == "damage" else 1.0)) for name in names}
        self._smooth_seconds = smooth_seconds
        self._devices = Level(smooth_seconds)
        self._scores: Scores | None = None
        self._scored_at = 0.0
        self._drift = 1.0  # damage of the short window over what the long one lets expect
        self._rounds: Rounds | None = None
        self._hit = 0.0
        self.readings: dict[str, float] = {}
        self._asking_joules = self._drafting_joules = 0.0

    def correction(self, name: str) -> float:
        value = self._off[name].value
        return 1.0 if value is None else min(MOST_CORRECTION, max(1.0 / MOST_CORRECTION, value))

    def observe(self, now: float, own: dict[str, Reading], scores: Scores) -> None:
        """``own``: sane readings, those that a decision needs among them."""
        self.readings = {name: r.value for name, r in own.items()}
        self.readings["devices"] = self._devices.update(self.readings["devices"], now)  # one scrape's is a draw
        gate = model.gate(self._smoothed(now, scores), self.grid.gammas, self.edge)
        self._rounds = model.rounds(gate, self.grid.ks, self.edge)
        self._hit = gate.hit
        end = now - own["tokens_per_second"].age_seconds
        settings = self.in_force.shares(end - self._window, end)
        devices = self.readings.get("devices_mean", self.readings["devices"])
        if devices > 0.0 and self.readings["tokens_per_second"] > 0.0 and settings:
            self._compare(now, settings, devices)
        if "damage" in own:
            end = now - own["damage"].age_seconds
            audited = float(scores.audited.sum()) * self._fast
            self._see_drift(self.in_force.shares(end - self._fast, end), own["damage"].value, audited)
        self._split_joules(scores)

    def _smoothed(self, now: float, scores: Scores) -> Scores:
        """Over twice the smoothing time: few devices make a noisy histogram; a drift is seen by the short window."""
        before, self._scored_at, elapsed = self._scores, now, now - self._scored_at
        if before is not None and before.edges.shape == scores.edges.shape and bool((before.edges == scores.edges).all()):
            share = -math.expm1(-max(0.0, elapsed) / (2.0 * self._smooth_seconds)) if self._smooth_seconds > 0.0 else 1.0
            mixed = {n: getattr(before, n) + share * (getattr(scores, n) - getattr(before, n)) for n in ROWS}
            scores = Scores(edges=scores.edges, age_seconds=scores.age_seconds, **mixed)
        self._scores = scores
        return scores

    def _compare(self, now: float, settings: list[tuple[tuple[int, float], float]], devices: float) -> None:
        said = self._raw(self.readings["round_trip_seconds"])
        per_device = {name: self.readings[name] / devices for name in ("tokens_per_second", "rounds_per_second")}
        for name, value in per_device.items():
            self._correct(name, value, self._mean(getattr(said, name), settings), now)
        if "damage_mean" in self.readings:
            tokens = said.tokens_per_second  # a ratio of sums: weighted with what each setting answered
            mean = self._mean(said.damage * tokens, settings) / max(self._mean(tokens, settings), 1e-12)
            self._correct("damage", self.readings["damage_mean"], mean, now)

    def _correct(self, name: str, measured: float, said: float, now: float) -> None:
        if said > 1e-9:
            ratio = min(MOST_CORRECTION, max(1.0 / MOST_CORRECTION, measured / said))
            self._off[name].update(ratio, now)

    def _see_drift(self, settings: list[tuple[tuple[int, float], float]], damage: float, audited: float) -> None:
        """``audited``: tokens whose rejection probability the short window rests on. An excess counts once it is above
        ``SURE`` standard errors: a rejection probability of some mean varies by about as much, and by no more than a coin."""
        if not settings or self._rounds is None:
            return
        said = self._mean(self._rounds.damage, settings) * self.correction("damage")
        ratio = min(MOST_DRIFT, damage / said) if said > 1e-6 else 1.0
        self._drift = ratio if ratio > 1.0 + SURE / math.sqrt(max(audited, 1.0)) else 1.0

    def _mean(self, values: Floats, settings: list[tuple[tuple[int, float], float]]) -> float:
        return sum(share * float(values[self.grid.cell(*setting)]) for setting, share in settings)

    def _split_joules(self, scores: Scores) -> None:
        drafted = self.readings.get("drafted_per_second", float(scores.drafted.sum()))
        if "drafting_joules_per_second" in self.readings and drafted > 0.0:
            self._drafting_joules = self.readings["drafting_joules_per_second"] / drafted
            rounds = self.readings["rounds_per_second"]
            self._asking_joules = self.readings.get("asking_joules_per_second", 0.0) / rounds if rounds > 0.0 else 0.0
        else:
            self._drafting_joules = self._asking_joules = 0.0

    def _raw(self, round_trip_seconds: float) -> Predicted:
        rounds = self._rounds
        if rounds is None:
            raise RuntimeError("nothing was observed yet")
        took = model.seconds(rounds, self._hit, self.readings["draft_seconds"], round_trip_seconds)
        joules = None
        if self._drafting_joules > 0.0:
            joules = (self._drafting_joules * rounds.drafted + self._asking_joules) / rounds.answered
        return Predicted(rounds.answered / took, 1.0 / took, rounds.damage, rounds.upload_rate, joules)

    def predict(self, round_trip_seconds: float) -> Predicted:
        """What each setting would do now, seen from one device."""
        raw = self._raw(round_trip_seconds)
        return Predicted(
            raw.tokens_per_second * self.correction("tokens_per_second"),
            raw.rounds_per_second * self.correction("rounds_per_second"),
            np.minimum(1.0, raw.damage * self.correction("damage") * self._drift),
            raw.upload_rate,
            raw.joules_per_token,
        )
