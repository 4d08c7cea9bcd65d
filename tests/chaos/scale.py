"""How much of each scenario is run: ``SMALL`` for every test run, ``FULL`` for ``make chaos``."""

from __future__ import annotations

from dataclasses import dataclass

from tests.chaos.hostile import HostileScale
from tests.chaos.kills import PATIENT_SECONDS, PRODUCTION_SECONDS, KillScale
from tests.chaos.outages import OutageScale
from tests.chaos.real_model import RealScale
from tests.chaos.scaling import ScalingScale
from tests.chaos.soak import SoakScale


@dataclass(frozen=True)
class Scale:
    """``slow_kills``: with a session timeout as in production."""

    kills: KillScale
    production_kills: KillScale
    slow_kills: KillScale
    real: RealScale
    terminations: ScalingScale
    up_and_down: ScalingScale
    outage: OutageScale
    hostile: HostileScale
    soak: SoakScale


SMALL = Scale(
    kills=KillScale(kills=3, sessions=24, deadline=PATIENT_SECONDS, seed=11),
    production_kills=KillScale(kills=2, sessions=16, deadline=PRODUCTION_SECONDS, seed=12),
    slow_kills=KillScale(kills=1, sessions=8, deadline=PRODUCTION_SECONDS, session_timeout_ms=6_000, seed=13),
    real=RealScale(kills=1, answers=4, tokens=24, seed=19),
    terminations=ScalingScale(changes=2, answers=16, seed=14),
    up_and_down=ScalingScale(changes=1, answers=12, seed=15),
    outage=OutageScale(seconds=4.0, seed=16),
    hostile=HostileScale(messages=500, per_second=200, large=4, seed=17),
    soak=SoakScale(seconds=20.0, devices=10, answers=20, seed=18),
)

FULL = Scale(
    kills=KillScale(kills=50, sessions=200, deadline=PATIENT_SECONDS, seed=1),
    production_kills=KillScale(kills=50, sessions=200, deadline=PRODUCTION_SECONDS, seed=2),
    slow_kills=KillScale(kills=6, sessions=48, deadline=PRODUCTION_SECONDS, session_timeout_ms=6_000, seed=3),
    real=RealScale(kills=3, answers=12, tokens=48, seed=9),
    terminations=ScalingScale(changes=12, answers=24, seed=4),
    up_and_down=ScalingScale(changes=4, answers=16, seed=5),
    outage=OutageScale(seconds=20.0, seed=6),
    hostile=HostileScale(messages=10_000, per_second=200, large=60, seed=7),
    soak=SoakScale(seconds=600.0, devices=50, answers=50, seed=8),
)
