"""``EnergyMeter`` over Zeus (package ``zeus``, once ``zeus-ml``; https://ml.energy/zeus).

It reads NVML and AMD SMI for accelerators, RAPL for processors and their memory, and the sensors of Jetson boards and of
Apple's processors.

Read are the counters that Zeus keeps (`get_total_energy_consumption`, millijoules), not its windows: several parties want the
same energy shared, and a counter needs no window of its own for each. Counters are of whole devices, whoever uses them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

from services.common.energy.meter import MeterError

_MICRO_PER_MILLI = 1000
_SOC_FIELDS = ("cpu_total_mj", "dram_mj", "gpu_mj", "gpu_sram_mj", "ane_mj")  # Apple's that do not contain one another


class ZeusMeter:
    """The sum of ``counters``, each in millijoules. ``parts``: what they count, for the log."""

    def __init__(self, counters: dict[str, Callable[[], float]]) -> None:
        if not counters:
            raise MeterError("Zeus finds no energy counter that may be read here")
        self._counters = counters

    @property
    def parts(self) -> list[str]:
        return list(self._counters)

    def microjoules(self) -> int:
        total = 0
        for part, counter in self._counters.items():
            try:
                total += round(counter() * _MICRO_PER_MILLI)
            except Exception as error:
                raise MeterError(f"{part}: {type(error).__name__}") from error
        return total


def meter(accelerators: Iterable[int]) -> ZeusMeter:
    """Of this machine: its board where that has sensors, else its processors and the ``accelerators`` with these indices (as
    the process sees them). Raises ``MeterError``."""
    try:
        device: Any = importlib.import_module("zeus.device")
        base: type[Exception] = importlib.import_module("zeus.exception").ZeusBaseError
    except ImportError as error:
        raise MeterError("Zeus is not installed: pip install 'sluice[energy]'") from error
    counters = _board(device, base)
    if not counters:
        counters = {**_processors(device, base), **_accelerators(device, base, accelerators)}
    found = ZeusMeter(counters)
    found.microjoules()  # what cannot be read at the start is told at the start
    return found


def _board(device: Any, base: type[Exception]) -> dict[str, Callable[[], float]]:
    try:
        soc = device.get_soc()
    except base:
        return {}
    return {"board": lambda: _of_board(soc.get_total_energy_consumption())}


def _of_board(measured: Any) -> float:
    """Jetson boards have a rail for all; of Apple's processors the parts are added up."""
    total = getattr(measured, "total_energy_mj", None)
    if total is not None:
        return float(total)
    values = [getattr(measured, name, None) for name in _SOC_FIELDS]
    known = [float(value) for value in values if value is not None]
    if not known:
        raise MeterError("the board has no sensor of its whole power")
    return sum(known)


def _processors(device: Any, base: type[Exception]) -> dict[str, Callable[[], float]]:
    """RAPL: readable for root only, or through Zeus's daemon."""
    try:
        cpus = device.get_cpus()
    except (base, OSError):
        return {}

    def count(index: int) -> float:
        measured = cpus.get_total_energy_consumption(index)
        return float(measured.cpu_mj) + float(measured.dram_mj or 0.0)

    return {f"processor {n}": lambda n=n: count(n) for n in range(len(cpus))}  # type: ignore[misc]


def _accelerators(device: Any, base: type[Exception], wanted: Iterable[int]) -> dict[str, Callable[[], float]]:
    """Raises ``MeterError`` for one that is wanted and has no counter: without it the most of the energy would be missing."""
    indices = list(wanted)
    if not indices:
        return {}
    try:
        gpus = device.get_gpus()
    except base as error:
        raise MeterError(f"Zeus finds no accelerator: {type(error).__name__}") from error
    for n in indices:
        if n >= len(gpus) or not gpus.supports_get_total_energy_consumption(n):
            raise MeterError(f"accelerator {n} has no energy counter")
    return {f"accelerator {n}": lambda n=n: float(gpus.get_total_energy_consumption(n)) for n in indices}  # type: ignore[misc]
