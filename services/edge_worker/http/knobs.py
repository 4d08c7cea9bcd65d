"""The ``sluice`` object of a request, checked against the operator's bounds."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, TypeVar

from services.common.messages import Mode
from services.edge_worker.answer import OnOutage
from services.edge_worker.http.bounds import Bounds
from services.edge_worker.http.errors import invalid

KEYS = ("mode", "gamma", "k", "deadline", "on_outage")
Choice = TypeVar("Choice", bound=enum.StrEnum)


@dataclass(frozen=True)
class Knobs:
    """``deadline`` is in seconds."""

    mode: Mode
    k: int
    gamma: float
    deadline: float
    on_outage: OnOutage
    asked: frozenset[str] = frozenset()  # those that the request names itself


def knobs(raw: Any, bounds: Bounds) -> Knobs:
    """The knobs ``raw`` asks for, with the operator's defaults; a 400 names the field and its bound."""
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise invalid("sluice", "sluice must be an object", "invalid_type")
    for key in raw:
        if key not in KEYS:
            raise invalid(f"sluice.{str(key)[:40]}", f"unknown key in sluice: '{str(key)[:40]}'; known are {', '.join(KEYS)}")
    asked = {key: value for key, value in raw.items() if value is not None}
    mode = _choice(asked, "mode", Mode, bounds.default_mode)
    if mode not in bounds.modes:
        raise invalid("sluice.mode", f"sluice.mode '{mode}' is not offered here; allowed: {', '.join(bounds.modes)}")
    k = _integer(asked, "k", bounds.default_k, bounds.k_max)
    if mode is Mode.LOSSLESS and k == 0:
        if "k" in asked:
            raise invalid("sluice.k", "sluice.k is 0, but mode lossless needs every token judged: k must be at least 1")
        k = 1
    return Knobs(
        mode=mode,
        k=k,
        gamma=_number(asked, "gamma", bounds.default_gamma, bounds.gamma_min, bounds.gamma_max),
        deadline=_number(asked, "deadline", bounds.default_deadline, bounds.deadline_min, bounds.deadline_max),
        on_outage=_choice(asked, "on_outage", OnOutage, bounds.on_outage(mode)),
        asked=frozenset(asked),
    )


def _choice(asked: dict[str, Any], key: str, kind: type[Choice], default: Choice) -> Choice:
    if key not in asked:
        return default
    for choice in kind:
        if asked[key] == choice.value:
            return choice
    raise invalid(f"sluice.{key}", f"sluice.{key} must be one of {', '.join(kind)}")


def _number(asked: dict[str, Any], key: str, default: float, low: float, high: float) -> float:
    value = asked.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise invalid(f"sluice.{key}", f"sluice.{key} must be a number from {low:g} to {high:g}", "invalid_type")
    if not low <= value <= high:
        value = max(-1e300, min(1e300, value))
        raise invalid(f"sluice.{key}", f"sluice.{key} is {value:g}; allowed are {low:g} to {high:g}")
    return float(value)


def _integer(asked: dict[str, Any], key: str, default: int, high: int) -> int:
    value = asked.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise invalid(f"sluice.{key}", f"sluice.{key} must be an integer from 0 to {high}", "invalid_type")
    if not 0 <= value <= high:
        raise invalid(f"sluice.{key}", f"sluice.{key} is {value}; allowed are 0 to {high}")
    return value
