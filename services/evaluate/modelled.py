"""What a recorded answer would take on another device, link and server: the papers' latency, throughput and energy. Pure.

The text is not written again: a round without a verdict in time is counted (``unverified``), its tokens stay as they were.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.common.energy.profiles import Device, Server
from services.evaluate.link import Channel, Link
from services.evaluate.trace import Record


@dataclass(frozen=True)
class World:
    """``deadline_seconds``: how long an impatient method waits for a verdict before it goes on alone."""

    link: Link
    device: Device
    server: Server
    deadline_seconds: float = 2.0


@dataclass(frozen=True)
class Modelled:
    """One answer. Joules of the device (computing and waiting), its radio, and its share of the server."""

    seconds: float
    device_joules: float
    radio_joules: float
    server_joules: float
    unverified: int = 0

    @property
    def joules(self) -> float:
        return self.device_joules + self.radio_joules + self.server_joules


def run(record: Record, world: World, *, patient: bool, seed: int) -> Modelled:
    """``seed``: of the link's draws; give every method the same for a prompt."""
    if record.method == "llm":
        return _beside(record, world.server)
    way = _Way(world, np.random.default_rng([seed, record.prompt]))
    if record.streamed:
        return way.stream(record)
    return way.session(record, patient)


def _beside(record: Record, server: Server) -> Modelled:
    """The large model where its user is: no link and no device."""
    seconds = server.queue_seconds + _alone_seconds(record, server)
    return Modelled(seconds, 0.0, 0.0, server.joules(record.passes, record.prompt_fed + record.fed))


def _alone_seconds(record: Record, server: Server) -> float:
    return server.seconds(record.prompt_fed) + (record.passes - 1) * server.seconds(1)


class _Way:
    """The clock of one answer. Air times are kept for the radio's energy."""

    def __init__(self, world: World, draws: np.random.Generator) -> None:
        self._world = world
        self._channel = Channel(world.link, draws)
        self._sent = self._received = 0.0  # seconds on air

    def stream(self, record: Record) -> Modelled:
        """Tokens go down while the next one is computed: only the last one's way counts."""
        server = self._world.server
        now = self._up(0.0, record.open_bytes) + server.queue_seconds + _alone_seconds(record, server)
        each = record.down_bytes / max(1, record.answered)
        for _ in range(max(0, record.answered - 1)):
            _, air = self._channel.send(round(each), up=False)
            self._received += air
        now = self._down(now, round(each))
        return self._account(record, now, 0, server.joules(record.passes, record.prompt_fed + record.fed), 0)

    def session(self, record: Record, patient: bool) -> Modelled:
        """Rounds one after the other, without drafting ahead; the prompt's pass runs while the device drafts."""
        device, server = self._world.device, self._world.server
        if not record.open_bytes:
            return self._account(record, record.steps * device.step_seconds, record.steps, 0.0, 0)
        ready = self._up(0.0, record.open_bytes) + server.queue_seconds + server.seconds(record.prompt_fed)
        now = unverified = 0.0
        passes, fed = 1, record.prompt_fed
        broken = 0.0  # until then the breaker is open
        for exchange in record.exchanges:
            now += exchange.steps * device.step_seconds
            wait = self._channel.down_for(now)
            if not patient and wait > self._world.deadline_seconds:
                unverified += exchange.candidates
                now, broken = now + (self._world.deadline_seconds if now >= broken else 0.0), now + wait
                continue
            arrived = max(self._up(now, exchange.up_bytes), ready)
            back = self._down(arrived + server.queue_seconds + server.seconds(exchange.fed), exchange.down_bytes)
            passes, fed = passes + 1, fed + exchange.fed
            if not patient and back - now > self._world.deadline_seconds:
                unverified += exchange.candidates
                back = now + self._world.deadline_seconds
            now = back
        now += (record.steps - sum(e.steps for e in record.exchanges)) * device.step_seconds
        return self._account(record, now, record.steps, server.joules(passes, fed), int(unverified))

    def _up(self, now: float, n_bytes: int) -> float:
        seconds, air = self._channel.send(n_bytes, up=True)
        self._sent += air
        return now + self._channel.down_for(now) + seconds

    def _down(self, now: float, n_bytes: int) -> float:
        seconds, air = self._channel.send(n_bytes, up=False)
        self._received += air
        return now + self._channel.down_for(now) + seconds

    def _account(self, record: Record, seconds: float, steps: int, server_joules: float, unverified: int) -> Modelled:
        device = self._world.device
        drafting = steps * device.step_seconds
        waiting = max(0.0, seconds - drafting - self._sent - self._received)
        radio = device.transmit_watts * self._sent + device.receive_watts * self._received
        return Modelled(
            seconds, device.draft_watts * drafting + device.waiting_watts * waiting, radio, server_joules, unverified
        )
