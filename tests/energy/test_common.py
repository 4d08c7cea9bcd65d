"""Shares, supply, profiles and settings of energy: nothing is lost, and what is estimated says so."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from services.common.energy import profiles
from services.common.energy.meter import FakeMeter, Source
from services.common.energy.profiles import Device, Server
from services.common.energy.settings import EnergySettings, accelerators
from services.common.energy.share import shares
from services.common.energy.supply import Supply
from services.common.settings import ConfigError, load

WEIGHTS = st.lists(st.floats(0, 1e9) | st.integers(0, 4096), min_size=1, max_size=64)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.integers(0, 10**15), WEIGHTS)
def test_shares_add_up_exactly_and_follow_their_weights(total: int, weights: list[float]) -> None:
    parts = shares(total, weights)
    assert sum(parts) == total
    whole = math.fsum(weights)
    for part, weight in zip(parts, weights, strict=True):
        exact = total * (weight / whole if whole else 1 / len(weights))
        assert abs(part - exact) <= 1 + 1e-9 * total
        assert part >= 0
        assert part == 0 or weight > 0 or not whole


def test_shares_refuse_what_cannot_be() -> None:
    assert shares(0, []) == []
    for total, weights in ((1, []), (1, [-1.0]), (1, [math.inf]), (1, [math.nan])):
        with pytest.raises(ValueError, match=r"weight|nobody"):
            shares(total, weights)


def test_the_meter_counts_and_not_the_model() -> None:
    meter = FakeMeter(100)
    supply = Supply(meter)
    meter.value = 350
    assert supply.take(supply.read(), 999) == (250, Source.MEASURED)
    assert supply.take(supply.read(), 999) == (0, Source.MEASURED)
    assert Supply().take(None, 999) == (999, Source.ESTIMATED)


@pytest.mark.parametrize("went_back", [True, False])
def test_a_meter_that_fails_is_given_up_with_one_line(went_back: bool) -> None:
    meter = FakeMeter(100)
    supply = Supply(meter)
    if went_back:
        meter.value = 99
    else:
        meter.broken = "gone"
    with capture_logs() as logs:
        assert supply.take(supply.read(), 7) == (7, Source.ESTIMATED)
        meter.value, meter.broken = 10_000, ""
        assert supply.take(supply.read(), 8) == (8, Source.ESTIMATED)
    assert [line["log_level"] for line in logs] == ["warning"]
    assert not supply.metered


@pytest.mark.parametrize("kind", [Device, Server])
def test_services_can_use_every_profile_that_comes_along(kind: type[Device | Server]) -> None:
    names = [
        line.split('"')[1]
        for line in (profiles.FOLDER / f"{kind.__name__.lower()}s.toml").read_text().splitlines()
        if line.startswith("name")
    ]
    assert len(names) == 3
    for name in names:
        assert EnergySettings(power_profile=name).profile(kind, "none").name == name


def test_contradictions_and_unknown_profiles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="POWER_PROFILE is set, but ENERGY is off"):
        load(EnergySettings, energy="off", power_profile="phone")
    with pytest.raises(ConfigError, match="choose one of phone, jetson, laptop"):
        EnergySettings(power_profile="toaster").profile(Device, "laptop")
    own = tmp_path / "my.toml"
    own.write_text(
        '[[device]]\nname = "a"\nstep_seconds = 1\ndraft_watts = 1\nidle_watts = 1\ntransmit_watts = 1\nreceive_watts = 1\n'
    )
    with pytest.raises(ConfigError, match=r"'a' does not say transmit_joules_per_bit and receive_joules_per_bit"):
        EnergySettings(power_profile=str(own)).profile(Device, "laptop")


def test_accelerators_follow_torchs_names() -> None:
    assert [accelerators(d) for d in ("cpu", "cuda", "cuda:0", "cuda:3", "meta")] == [[], [0], [0], [3], []]
