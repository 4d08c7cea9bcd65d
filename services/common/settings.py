"""What the settings of all services share: one clear line for a bad value, and the number of cores that may be used."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings

SECRETS_DIR = "SLUICE_SECRETS_DIR"


class ConfigError(Exception):
    """Settings or models that cannot work; ``str(error)`` is one line that says what to change."""


class ServiceSettings(BaseSettings):
    """Knobs that each service has."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe log line that is written; `debug` also shows the Kafka client's own lines"
    )
    metrics_host: str = Field(
        default="127.0.0.1", description="address that /metrics, /startz, /livez, /readyz and /lag listen on"
    )
    metrics_port: int = Field(
        default=0, ge=0, le=65535, description="TCP port of /metrics and the health checks; 0 picks a free one and logs it"
    )
    watchdog_seconds: float = Field(
        default=30.0,
        gt=0,
        description="seconds without progress, although there is work, until /livez says 503 and why; "
        "longer than any forward pass takes",
    )


S = TypeVar("S", bound=BaseSettings)


def load(cls: type[S], **given: Any) -> S:
    """Build ``cls`` from the environment, or raise ``ConfigError`` that names each bad variable.

    ``SLUICE_SECRETS_DIR`` names a folder with one file for each secret, called like its variable in lower case (as a
    Kubernetes secret is mounted); the environment goes first, and what is ``given`` before it.
    """
    folder = os.environ.get(SECRETS_DIR, "")
    if folder and not Path(folder).is_dir():
        raise ConfigError(f"{SECRETS_DIR}: {folder} is not a folder")
    try:
        return cls(_secrets_dir=folder, **given) if folder else cls(**given)
    except ValidationError as error:
        prefix = str(cls.model_config.get("env_prefix", ""))
        parts = []
        for e in error.errors(include_url=False, include_input=False):
            name = prefix + "_".join(str(p) for p in e["loc"]).upper() if e["loc"] else ""
            message = e["msg"].removeprefix("Value error, ")
            parts.append(f"{name}: {message}" if name else message)
        raise ConfigError("; ".join(parts)) from error


def usable_cores() -> int:
    """Cores this process may use: the smaller of affinity and the cgroup's quota, rounded down, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, math.floor(int(quota) / int(period)))
    except (OSError, ValueError):
        pass  # no cgroup v2 quota: affinity decides
    return max(1, cores)
