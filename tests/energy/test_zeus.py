"""The meter over Zeus.

No accelerator, RAPL or board sensor is here: Zeus's own code reads a made RAPL folder, and stand-ins made after its own
classes are the rest, so names and units are Zeus's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest
import zeus.device as zeus_device
from zeus.device.cpu import rapl
from zeus.device.cpu.common import CpuDramMeasurement, CPUs, ZeusCPUNoPermissionError
from zeus.device.gpu.common import GPUs, ZeusGPUInitError, ZeusGPULostError
from zeus.device.soc.apple import AppleSiliconMeasurement
from zeus.device.soc.common import SoC, ZeusSoCInitError
from zeus.device.soc.jetson import JetsonMeasurement

from services.common.energy import zeus
from services.common.energy.meter import MeterError, Source
from services.common.energy.settings import EnergySettings
from services.common.settings import ConfigError


def _raises(error: Exception) -> Any:
    def get() -> None:
        raise error

    return get


class Machine:
    """What Zeus finds on it; at first nothing."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch
        self.has("get_gpus", ZeusGPUInitError("none"))
        self.has("get_cpus", ZeusCPUNoPermissionError("none"))
        self.has("get_soc", ZeusSoCInitError("none"))

    def has(self, getter: str, what: Any) -> None:
        self.patch.setattr(zeus_device, getter, _raises(what) if isinstance(what, Exception) else lambda: what)

    def gpus(self, *millijoules: float, counted: bool = True) -> Any:
        fake = create_autospec(GPUs, instance=True)
        fake.__len__.return_value = len(millijoules)
        fake.supports_get_total_energy_consumption.return_value = counted
        fake.get_total_energy_consumption.side_effect = lambda gpu_index: millijoules[gpu_index]
        self.has("get_gpus", fake)
        return fake


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.fixture
def powercap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """RAPL's folder with one package and its memory, read by Zeus's code."""
    for folder, name, microjoules in (("", "package-0", 1_000_000), ("intel-rapl:0:0", "dram", 200_000)):
        zone = tmp_path / "intel-rapl:0" / folder
        zone.mkdir()
        (zone / "name").write_text(name)
        (zone / "energy_uj").write_text(str(microjoules))
        (zone / "max_energy_range_uj").write_text("262143328850")
    monkeypatch.setattr(rapl, "RAPL_DIR", str(tmp_path))
    rapl.rapl_is_available.cache_clear()
    cpus = rapl.RAPLCPUs()
    monkeypatch.setattr(zeus_device, "get_cpus", lambda: cpus)
    yield tmp_path / "intel-rapl:0"
    for cpu in cpus.cpus:
        for file in (cpu.rapl_file, cpu.dram):
            if file is not None and file._wraparound_tracker is not None:
                file._wraparound_tracker._stop()
    rapl.rapl_is_available.cache_clear()


def test_processors_and_their_memory_are_read_from_rapl(machine: Machine, powercap: Path) -> None:
    meter = zeus.meter([])
    assert meter.parts == ["processor 0"]
    assert meter.microjoules() == 1_200_000
    (powercap / "energy_uj").write_text("3500000")
    (powercap / "intel-rapl:0:0" / "energy_uj").write_text("200001")
    assert meter.microjoules() == 3_700_001


def test_an_accelerator_and_the_processors_are_added_up(machine: Machine) -> None:
    cpus = create_autospec(CPUs, instance=True)
    cpus.__len__.return_value = 2
    cpus.get_total_energy_consumption.side_effect = lambda index: CpuDramMeasurement(10.0 * (index + 1), None)
    machine.has("get_cpus", cpus)
    machine.gpus(500.0, 7000.0)
    meter = zeus.meter([1])
    assert meter.parts == ["processor 0", "processor 1", "accelerator 1"]
    assert meter.microjoules() == (10 + 20 + 7000) * 1000


@pytest.mark.parametrize(
    ("measured", "millijoules"),
    [
        (JetsonMeasurement(cpu_energy_mj=1.0, gpu_energy_mj=2.0, total_energy_mj=9.0), 9),
        (AppleSiliconMeasurement(cpu_total_mj=4, efficiency_cores_mj=[1, 3], dram_mj=2, gpu_mj=3, ane_mj=1), 10),
    ],
)
def test_a_board_with_sensors_is_all_there_is(machine: Machine, measured: Any, millijoules: int) -> None:
    soc = create_autospec(SoC, instance=True)
    soc.get_total_energy_consumption.return_value = measured
    machine.has("get_soc", soc)
    machine.gpus(500.0)
    meter = zeus.meter([0])
    assert meter.parts == ["board"]
    assert meter.microjoules() == millijoules * 1000


def test_a_board_without_a_sensor_of_its_whole_power_is_no_meter(machine: Machine) -> None:
    soc = create_autospec(SoC, instance=True)
    soc.get_total_energy_consumption.return_value = JetsonMeasurement(None, None, None)
    machine.has("get_soc", soc)
    with pytest.raises(MeterError, match="board"):
        zeus.meter([])


def test_an_accelerator_without_a_counter_is_not_left_out_in_silence(machine: Machine, powercap: Path) -> None:
    machine.gpus(1.0, counted=False)
    with pytest.raises(MeterError, match="accelerator 0 has no energy counter"):
        zeus.meter([0])


def test_a_meter_is_demanded_wished_for_or_not_wanted(machine: Machine) -> None:
    assert not EnergySettings(energy="auto").supply("cpu").metered
    with pytest.raises(ConfigError, match=r"ENERGY: Zeus finds no energy counter .*; or choose auto or model"):
        EnergySettings(energy="zeus").supply("cpu")
    machine.gpus(1.0)
    assert EnergySettings(energy="auto").supply("cuda:0").metered
    assert not EnergySettings(energy="model").supply("cuda:0").metered


def test_an_accelerator_lost_at_run_time_turns_the_figures_into_estimates(machine: Machine) -> None:
    fake = machine.gpus(2000.0)
    supply = EnergySettings(energy="zeus").supply("cuda")
    fake.get_total_energy_consumption.side_effect = lambda gpu_index: 2004.5
    assert supply.take(supply.read(), 1) == (4500, Source.MEASURED)
    fake.get_total_energy_consumption.side_effect = ZeusGPULostError("fell off the bus")
    assert supply.take(supply.read(), 1) == (1, Source.ESTIMATED)
    assert not supply.metered
