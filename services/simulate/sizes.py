"""Budgets that fit a profile: what is scarce for one pair is plenty for another. Pure, seeded.

All scenarios of a profile share them, so that they are as hard for a small pair as for a large one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.drift.adaptive import MOST_GAMMA
from services.simulate.fleet import DeviceClass
from services.simulate.profile import Profile
from services.simulate.rounds import ALL_KEPT, AUDIT, CANDIDATES, DRAFTED, KEPT, Stream, rounds

TYPICAL_K = 4
TYPICAL_SPAN = 4
DAMAGE = 1.1  # times the damage at the calibrated point: a calibration stays a little below its bound
PASSES = 7.0  # that a round may take in the pool
JITTERS = 3.0  # 95th percentile of an exponential delay, in means
ENERGY = 1.15  # times the least that a token can cost on the device
KS = (1, 2, 4, 8)
GAMMAS = (0.0, 0.25, 0.5, 0.75, MOST_GAMMA)
LEAST_DEADLINE_SECONDS = 2.0
DEADLINE = 5.0  # times the budget of the round trip


@dataclass(frozen=True)
class Sizes:
    """``joules_per_token``: a budget that can just be met on every device; ``deadline_seconds``: of a round."""

    damage: float
    round_trip_seconds: float
    joules_per_token: float
    deadline_seconds: float

    @staticmethod
    def of(profile: Profile, classes: Sequence[DeviceClass]) -> Sizes:
        stream = Stream.of(profile, seed=0, times=1)
        typical = rounds(stream, TYPICAL_K, MOST_GAMMA, seed=0).rows
        damage = DAMAGE * float(typical[:, AUDIT].sum() / (typical[:, KEPT] + 1.0).sum())
        a, b, c = profile.pass_line()
        seconds = a + b + c * TYPICAL_SPAN
        link = max(d.rtt_seconds + JITTERS * d.jitter_seconds for d in classes)
        round_trip = link + PASSES * seconds
        joules = max(_least_joules(profile, stream, d, seconds, damage) for d in classes)
        return Sizes(damage, round_trip, ENERGY * joules, max(LEAST_DEADLINE_SECONDS, DEADLINE * round_trip))


def _least_joules(profile: Profile, stream: Stream, device: DeviceClass, pass_seconds: float, damage: float) -> float:
    """A token, at the best of a few settings inside the damage limit, with the pool nearly idle."""
    step, wait = profile.step_seconds * device.slowness, device.rtt_seconds + 1.5 * pass_seconds
    least = float("inf")
    for k in KS:
        for gamma in GAMMAS:
            rows = rounds(stream, k, gamma, seed=0).rows
            answered = float((rows[:, KEPT] + 1.0).sum())
            if float(rows[:, AUDIT].sum()) > damage * answered:
                break
            drafting = rows[:, DRAFTED] * step
            ahead = drafting.clip(max=wait)
            wasted = ahead * (1.0 - profile.hit * rows[:, ALL_KEPT])
            asking = device.round_joules + device.candidate_joules * rows[:, CANDIDATES]
            spent = (drafting + wasted) * device.draft_watts + (wait - ahead) * device.idle_watts + asking
            least = min(least, float(spent.sum()) / answered)
    return least
