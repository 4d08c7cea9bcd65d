"""What each scenario must come to. An empty list: all of it."""

from __future__ import annotations

from tests.chaos.hostile import HostileFigures
from tests.chaos.kills import KillFigures
from tests.chaos.outages import OutageFigures
from tests.chaos.real_model import RealFigures
from tests.chaos.scaling import DRAIN_SECONDS, ScalingFigures
from tests.chaos.soak import SoakFigures

MOST_UNVERIFIED = 0.01


def _wrong(**facts: bool) -> list[str]:
    return [name.replace("_", " ") for name, right in facts.items() if not right]


def kills(f: KillFigures) -> list[str]:
    found = _wrong(
        all_kills_hit=f.kills == f.scale.kills,
        every_answer_complete=f.answers == f.scale.sessions and f.answers_lost == 0,
        no_token_committed_twice=f.tokens_committed_twice == 0,
        offsets_right=f.partitions_behind == [],
        no_crash=f.crashes == 0,
    )
    if f.patient:
        found += _wrong(
            streams_equal=f.streams_different == 0, all_verified=f.unverified_share == 0, nothing_refused=f.refused == {}
        )
    return found


def real_model(f: RealFigures) -> list[str]:
    return _wrong(
        every_answer_complete=f.answers > 0 and f.answers_lost == 0,
        streams_equal_or_within_rounding=f.streams_different == 0,
        all_verified=f.unverified_share == 0,
        offsets_right=f.partitions_behind == [],
        no_crash=f.crashes == 0,
    )


def terminations(f: ScalingFigures) -> list[str]:
    return _wrong(
        every_answer_complete=f.answers > 0 and f.answers_failed == 0,
        nothing_answered_twice=f.answered_twice == 0,
        no_crash=f.crashes == 0,
        orderly_exits=set(f.exit_codes) == {0},
        drained_in_time=max(f.exits) <= DRAIN_SECONDS,
        offsets_right=f.partitions_behind == [],
        tokens_verified=f.unverified_share <= MOST_UNVERIFIED,
    )


def outage(f: OutageFigures) -> list[str]:
    return _wrong(
        every_answer_complete=f.answers > 0 and f.answers_failed == 0,
        answers_went_on=f.tokens_during > 0 and f.unverified_during > 0,
        breaker_opened=f.breaker_opened,
        breaker_closed=f.breaker_closed,
        no_restart_needed=f.restarted == 0,
        offsets_right=f.partitions_behind == [],
    )


def hostile(f: HostileFigures) -> list[str]:
    return f.unexpected[:20] + _wrong(
        one_letter_each=f.dead_letters == f.messages and f.without_letter == 0,
        no_crash=f.consumer_crashes == 0,
        no_stalled_partition=f.stalled_partitions == [],
        good_answers_complete=f.good_answers > 0 and f.good_failed == 0,
        good_traffic_verified=f.good_unverified_share <= MOST_UNVERIFIED,
    )


def soak(f: SoakFigures) -> list[str]:
    return f.leaks + _wrong(
        every_answer_complete=f.answers > 0 and f.answers_failed == 0,
        offsets_right=f.partitions_behind == [],
        no_crash=f.crashes == 0,
    )
