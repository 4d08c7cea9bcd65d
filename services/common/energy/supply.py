"""The energy of an interval: the meter's where it can be read, else the model's."""

from __future__ import annotations

import structlog

from services.common.energy.meter import EnergyMeter, MeterError, Source

log = structlog.get_logger()


class Supply:
    """``read`` may be called on another thread than ``take``; neither twice at a time. A meter that fails is given up for good,
    with one log line: figures that change their source again and again could not be compared."""

    def __init__(self, meter: EnergyMeter | None = None) -> None:
        self._meter = meter
        self._last: int | None = None
        if meter is not None:
            self._last = self.read()

    @property
    def metered(self) -> bool:
        return self._meter is not None

    def read(self) -> int | None:
        """The meter's state now, in microjoules; ``None``: there is none (any more). May take milliseconds."""
        if self._meter is None:
            return None
        try:
            return self._meter.microjoules()
        except MeterError as error:
            self._give_up(str(error))
            return None

    def take(self, reading: int | None, modelled: int) -> tuple[int, Source]:
        """Microjoules between the last reading and this one, of now; ``modelled``: what the model says of that time."""
        if reading is None or self._last is None:
            return modelled, Source.ESTIMATED
        spent, self._last = reading - self._last, reading
        if spent < 0:
            self._give_up("its count went back")
            return modelled, Source.ESTIMATED
        return spent, Source.MEASURED

    def _give_up(self, reason: str) -> None:
        self._meter = self._last = None
        log.warning("the energy meter has failed: energy is estimated from now on", reason=reason)
