"""What keeps the knobs calm: smoothing, dwell time, hysteresis, bounded steps. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

SAME = 1e-9
MOST_PATIENCE = 8.0


@dataclass
class Smooth:
    """Exponential moving average by time; ``seconds``: its time constant. A reading that is not a number changes nothing."""

    seconds: float
    value: float | None = None
    _at: float = 0.0

    def update(self, value: float, now: float) -> float:
        if not math.isfinite(value):
            return self.value if self.value is not None else value
        if self.value is None or self.seconds <= 0.0:
            self.value = value
        else:
            share = -math.expm1(-max(0.0, now - self._at) / self.seconds)
            self.value += share * (value - self.value)
        self._at = now
        return self.value


@dataclass
class Level:
    """A number of things that come and go by chance, and at times changes for a reason: an average by time, which gives way at
    once to a value further off than ``sigmas`` standard deviations of chance (that of a Poisson law)."""

    seconds: float
    sigmas: float = 3.0
    _mean: Smooth = field(init=False)

    def __post_init__(self) -> None:
        self._mean = Smooth(self.seconds)

    def update(self, value: float, now: float) -> float:
        mean = self._mean.value
        if mean is not None and abs(value - mean) > self.sigmas * math.sqrt(max(mean, 1.0)):
            self._mean = Smooth(self.seconds)
        return self._mean.update(value, now)


@dataclass(frozen=True)
class Calm:
    """``dwell_seconds``: between two changes; ``turn_seconds``: before a change back; ``band``: relative change of gamma that
    is worth one; ``gain``: gain in utility that is; ``step``: largest factor by which gamma grows at once. A budget that is
    broken shortens the dwell to ``urgent_seconds`` and opens the band, but for a change towards fewer breaches only."""

    dwell_seconds: float = 10.0
    turn_seconds: float = 60.0
    urgent_seconds: float = 4.0
    band: float = 0.04
    gain: float = 0.01
    step: float = 1.5


@dataclass
class Knobs:
    """The setting of one class, and when and which way it last changed."""

    k: int
    gamma: float
    changed_at: float = -math.inf
    turned_at: float = -math.inf
    direction: int = 0  # of gamma's last change
    patience: float = 1.0  # times the turn's wait: doubled each time that a rise had to be taken back at once

    def move(self, k: int, gamma: float, now: float, calm: Calm, *, gain: float, urgent: bool) -> str:
        """Take ``(k, gamma)`` if it is time; why not, otherwise (empty: changed, or already there)."""
        if k == self.k and abs(gamma - self.gamma) < SAME:
            return ""
        gamma = min(gamma, max(self.gamma, 0.1) * calm.step)
        direction = int(math.copysign(1, gamma - self.gamma)) if abs(gamma - self.gamma) >= SAME else 0
        if now - self.changed_at < (calm.urgent_seconds if urgent else calm.dwell_seconds) - SAME:
            return "dwell"
        if not urgent:
            small = abs(gamma - self.gamma) <= calm.band * max(self.gamma, 0.1)
            if gain < calm.gain and (k != self.k or small):
                return "not worth a change"
            if small and k == self.k:
                return "within the band"
            if direction and self.direction and direction != self.direction and now - self.turned_at < self._wait(calm):
                return "no turning back yet"
        self._learn(direction, now, calm, urgent=urgent)
        self.put(k, gamma, now, direction)
        return ""

    def _wait(self, calm: Calm) -> float:
        return calm.turn_seconds * self.patience

    def _learn(self, direction: int, now: float, calm: Calm, *, urgent: bool) -> None:
        """A rise that a breach takes back within its wait was one too many; one that stood was not."""
        if direction < 0 < self.direction:
            soon = now - self.turned_at < calm.turn_seconds
            self.patience = min(MOST_PATIENCE, 2.0 * self.patience) if urgent and soon else 1.0

    def put(self, k: int, gamma: float, now: float, direction: int = 0) -> None:
        """Whatever dwell and band say."""
        if direction and direction != self.direction:
            self.turned_at = now
        self.direction = direction or self.direction
        self.k, self.gamma, self.changed_at = k, gamma, now
