"""What answers cost their device in joules.

At each moment the device drafts, or waits for a verdict, or does nothing: the first is shared by the answers that are drafted
at that moment, the second by all that are being written, the third is nobody's (``idle``). The power model says what each state
draws; where there is a meter, what it counts between two looks is shared in the model's proportions. So whatever was spent is
told once, to the last microjoule.

The radio comes on top, from the bytes at the sockets, by joules per bit; it is always an estimate. It is shared by the payload
of the answers in that time. What no answer has caused (metadata, heartbeats) is counted and is in no answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from services.common.energy.counter import JoulesCounter
from services.common.energy.meter import Source
from services.common.energy.profiles import Device
from services.common.energy.settings import EnergySettings
from services.common.energy.share import micro, shares
from services.common.energy.supply import Supply
from services.common.messages import Verdict
from services.edge_worker.answer import AnswerStats
from services.edge_worker.uplink import UplinkMeter

DRAFT, WAIT, RADIO, VERIFY, IDLE = "draft", "wait", "radio", "verify", "idle"
BITS = 8

Count = Callable[[str, Source, int], None]  # component, source, microjoules
Traffic = Callable[[], tuple[int, int] | None]  # bytes sent and received up to now; None: not known here


class DeviceEnergy:
    """What sessions tell of themselves; the default looks away."""

    def enter(self, stats: AnswerStats) -> None:
        """The answer begins."""

    @contextmanager
    def drafting(self, stats: AnswerStats) -> Iterator[None]:
        """A step of it is being drafted."""
        yield

    async def leave(self, stats: AnswerStats) -> None:
        """The answer has ended, and ``stats.energy`` is complete."""

    async def settle(self) -> None:
        """Tell what was spent up to now."""


@dataclass(eq=False)
class _Entry:
    """An answer being written. ``payload``: bytes of it that are accounted for."""

    stats: AnswerStats
    drafting: int = 0
    payload: int = 0


class MeteredDevice(DeviceEnergy):
    """For one event loop. ``count`` gets all, the answers' parts included."""

    def __init__(
        self, device: Device, supply: Supply, traffic: Traffic, count: Count, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._device, self._supply, self._traffic, self._count, self._clock = device, supply, traffic, count, clock
        self._active: dict[int, _Entry] = {}
        self._left: list[_Entry] = []  # since the last settlement
        self._pending: dict[tuple[_Entry | None, str], float] = {}  # joules by the model
        self._then = clock()
        self._bytes = traffic() or (0, 0)
        self._settling = asyncio.Lock()

    def enter(self, stats: AnswerStats) -> None:
        self._advance()
        self._active[id(stats)] = _Entry(stats)

    @contextmanager
    def drafting(self, stats: AnswerStats) -> Iterator[None]:
        entry = self._active[id(stats)]
        self._advance()
        entry.drafting += 1
        try:
            yield
        finally:
            self._advance()
            entry.drafting -= 1

    async def leave(self, stats: AnswerStats) -> None:
        if (entry := self._active.get(id(stats))) is None:
            return
        self._advance()
        self._left.append(self._active.pop(id(stats)))
        entry.drafting = 0
        await self.settle()

    async def settle(self) -> None:
        async with self._settling:
            metered = self._supply.metered
            reading = await asyncio.to_thread(self._supply.read) if metered else None
            self._advance()
            pending, self._pending = self._pending, {}
            joules = list(pending.values())
            spent, source = self._supply.take(reading, micro(sum(joules)))
            for (entry, component), part in zip(pending, shares(spent, joules), strict=True):
                self._tell(entry, component, source, part)
            self._settle_radio()

    def _advance(self) -> None:
        """Charge the time since the last change of state."""
        now = self._clock()
        seconds, self._then = now - self._then, now
        everybody: list[_Entry | None] = [*self._active.values()]
        drafting: list[_Entry | None] = [e for e in self._active.values() if e.drafting]
        if drafting:
            watts, component, who = self._device.draft_watts, DRAFT, drafting
        elif everybody:
            watts, component, who = self._device.waiting_watts, WAIT, everybody
        else:
            watts, component, who = self._device.idle_watts, IDLE, [None]
        for entry in who:
            key = entry, component
            self._pending[key] = self._pending.get(key, 0.0) + watts * seconds / len(who)

    def _settle_radio(self) -> None:
        entries = [*self._active.values(), *self._left]
        self._left = []
        payload = [e.stats.payload_bytes - e.payload for e in entries]
        for entry in entries:
            entry.payload = entry.stats.payload_bytes
        now = self._traffic()
        sent, received = sum(payload), 0  # all that is known where the kernel does not count
        if now is not None:
            (sent, received), self._bytes = (now[0] - self._bytes[0], now[1] - self._bytes[1]), now
        device = self._device
        joules = sent * (device.transmit_joules_per_bit or 0.0) + received * (device.receive_joules_per_bit or 0.0)
        spent = micro(BITS * joules)
        if not any(payload):  # verdicts come back to those who asked before
            payload = [int(e.payload > 0) for e in entries]
        if not any(payload):
            self._tell(None, RADIO, Source.ESTIMATED, spent)
            return
        for entry, part in zip(entries, shares(spent, payload), strict=True):
            self._tell(entry, RADIO, Source.ESTIMATED, part)

    def _tell(self, entry: _Entry | None, component: str, source: Source, microjoules: int) -> None:
        self._count(component, source, microjoules)
        if entry is not None:
            entry.stats.energy.add(component, source, microjoules)


def verified(stats: AnswerStats, verdict: Verdict) -> None:
    """The verifiers' share that a verdict tells; verifiers count it, so it is in the answer alone."""
    if verdict.energy_joules is not None:
        source = Source.MEASURED if verdict.energy_measured else Source.ESTIMATED
        stats.energy.add(VERIFY, source, micro(verdict.energy_joules))


def device_energy(settings: EnergySettings, device: str, meter: UplinkMeter, registry: CollectorRegistry) -> DeviceEnergy:
    """As the settings say; ``device``: where torch has the draft model. Raises ``ConfigError``."""
    if settings.energy == "off":
        JoulesCounter(registry, ())
        return DeviceEnergy()
    joules = JoulesCounter(registry, (DRAFT, WAIT, RADIO, IDLE))
    return MeteredDevice(settings.profile(Device, "laptop"), settings.supply(device), meter.traffic, joules.add)
