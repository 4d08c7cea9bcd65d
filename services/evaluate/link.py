"""A link as a model: how long a message takes. Pure; draws come from the generator that is handed in.

The rate is the papers' Shannon form, ``R = B log2(1 + SNR |h|^2)`` with Rayleigh fading: ``|h|^2`` is exponential with mean 1,
drawn for each message. Ours: the gain is cut off below at ``least_gain`` (a real link would change its coding; without it the
mean time is infinite), lost messages are sent again after one more round trip, jitter is half-normal, and outages come at
regular intervals with a random phase.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field

from services.common.energy.profiles import Profile


class Link(Profile):
    """Bandwidths in Hz, ``snr_db`` mean signal to noise ratio, times in seconds. ``loss``: chance that a message is lost."""

    uplink_hz: float = Field(gt=0)
    downlink_hz: float = Field(gt=0)
    snr_db: float
    fading: bool = True
    least_gain: float = Field(default=0.05, gt=0, le=1)
    rtt_seconds: float = Field(ge=0)
    jitter_seconds: float = Field(default=0.0, ge=0)
    loss: float = Field(default=0.0, ge=0, lt=1)
    outage_every_seconds: float = Field(default=0.0, ge=0)
    outage_seconds: float = Field(default=0.0, ge=0)
    overhead_bytes: int = Field(default=0, ge=0, description="of lower layers, for each message")

    def rate(self, hertz: float, gain: float) -> float:
        """Bits per second at ``|h|^2 = gain``."""
        return hertz * math.log2(1.0 + 10.0 ** (self.snr_db / 10.0) * max(gain, self.least_gain))

    def air_seconds(self, n_bytes: int, gain: float, *, up: bool) -> float:
        """Time on air of one try."""
        return 8.0 * (n_bytes + self.overhead_bytes) / self.rate(self.uplink_hz if up else self.downlink_hz, gain)


class Channel:
    """One answer's way over a link. ``phase``: seconds from the end of the last outage to the answer's start."""

    def __init__(self, link: Link, draws: np.random.Generator) -> None:
        self._link, self._draws = link, draws
        self._phase = float(draws.uniform(0.0, link.outage_every_seconds)) if self._broken else 0.0

    @property
    def _broken(self) -> bool:
        return self._link.outage_every_seconds > 0.0 and self._link.outage_seconds > 0.0

    def down_for(self, now: float) -> float:
        """Seconds until the link is up, at ``now`` seconds of the answer: outages end each period."""
        if not self._broken:
            return 0.0
        period = self._link.outage_every_seconds
        at = (now + self._phase) % period
        return max(0.0, period - at) if at >= period - self._link.outage_seconds else 0.0

    def send(self, n_bytes: int, *, up: bool) -> tuple[float, float]:
        """Seconds until the message is there, and seconds on air (all tries), outside outages."""
        link = self._link
        tries = int(self._draws.geometric(1.0 - link.loss)) if link.loss else 1
        gains = self._draws.exponential(size=tries) if link.fading else np.ones(tries)
        air = sum(link.air_seconds(n_bytes, float(gain), up=up) for gain in gains)
        jitter = abs(float(self._draws.normal(0.0, link.jitter_seconds))) if link.jitter_seconds else 0.0
        return air + (tries - 1) * link.rtt_seconds + link.rtt_seconds / 2 + jitter, air
