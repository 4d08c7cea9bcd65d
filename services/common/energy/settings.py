"""Where a service's joules come from, as its settings say."""

from __future__ import annotations

import re
from typing import Literal, Self

import structlog
from pydantic import Field, model_validator

from services.common.energy import profiles, zeus
from services.common.energy.meter import MeterError
from services.common.energy.profiles import Device, ProfileError, Server
from services.common.energy.supply import Supply
from services.common.settings import ConfigError, ServiceSettings

log = structlog.get_logger()
_NEEDED: dict[type[Device | Server], tuple[str, ...]] = {
    Device: ("transmit_joules_per_bit", "receive_joules_per_bit"),
    Server: ("idle_watts",),
}


class EnergySettings(ServiceSettings):
    """Of services that account for energy."""

    energy: Literal["auto", "zeus", "model", "off"] = Field(
        default="auto",
        description="joules: measured by Zeus where it finds a counter, else estimated from the power profile (`auto`); "
        "measured, or no start (`zeus`); estimated (`model`); not counted (`off`)",
    )
    power_profile: str = Field(
        default="",
        description="watts of what is not measured: a name out of `services/common/energy/profiles`, FILE.toml or "
        "FILE.toml:NAME; empty: `laptop` for an edge worker, `cpu` or `gpu` for a verifier",
    )

    @model_validator(mode="after")
    def _used(self) -> Self:
        if self.energy == "off" and self.power_profile:
            raise ValueError("POWER_PROFILE is set, but ENERGY is off: nothing would read it")
        return self

    def _variable(self, name: str) -> str:
        return f"{self.model_config.get('env_prefix', '')}{name}"

    def supply(self, device: str) -> Supply:
        """``device``: where torch has the model. Raises ``ConfigError`` where a meter is demanded and there is none."""
        if self.energy == "model":
            return Supply()
        try:
            meter = zeus.meter(accelerators(device))
        except MeterError as error:
            if self.energy == "zeus":
                raise ConfigError(f"{self._variable('ENERGY')}: {error}; or choose auto or model") from error
            log.info("energy is estimated", reason=str(error))
            return Supply()
        log.info("energy is measured", parts=meter.parts)
        return Supply(meter)

    def profile(self, kind: type[profiles.P], default: str) -> profiles.P:
        """The power profile, or ``default``. Raises ``ConfigError``."""
        variable = self._variable("POWER_PROFILE")
        try:
            found = profiles.load(kind, self.power_profile or default)
        except ProfileError as error:
            raise ConfigError(f"{variable}: {error}") from error
        missing = [name for table, names in _NEEDED.items() if kind is table for name in names if getattr(found, name) is None]
        if missing:
            raise ConfigError(f"{variable}: the profile {found.name!r} does not say {' and '.join(missing)}")
        return found


def accelerators(device: str) -> list[int]:
    """The accelerator that a torch device names."""
    found = re.fullmatch(r"cuda(?::(\d+))?", device)
    return [] if found is None else [int(found[1] or 0)]
