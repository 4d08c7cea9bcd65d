"""For each alert: series that must raise it, and series like them that must not. In promtool's notation, a sample each 15 s."""

from __future__ import annotations

from dataclasses import dataclass

Series = dict[str, str]
_LONG = 64  # samples: sixteen minutes


@dataclass(frozen=True)
class Case:
    """``fires``: with one firing alert at ``at`` minutes; ``quiet``: with none."""

    fires: Series
    quiet: Series
    at: int = 16


def _rising(**rates: float) -> Series:
    """Counters by name (labels may follow in the name) that rise by so much with each sample."""
    return {name: f"0+{rate}x{_LONG}" for name, rate in rates.items()}


def _flat(name: str, value: float) -> Series:
    return {name: f"{value}+0x{_LONG}"}


def _lag(late: float) -> Series:
    """100 observations with each sample, ``late`` of them between 20 and 50 ms."""
    base = 'sluice_loop_lag_seconds_bucket{job="sluice-verifier",instance="a",le="%s"}'
    return {
        base % "0.02": f"0+{100 - late}x{_LONG}",
        base % "0.05": f"0+100x{_LONG}",
        base % "+Inf": f"0+100x{_LONG}",
    }


def _tokens(skipped: float, unverified: float) -> Series:
    """Of one namespace; a larger one beside it has all its verdicts."""
    return {
        'sluice_tokens_total{instance="z",namespace="other",decision="skipped"}': f"0+9000x{_LONG}",
        'sluice_tokens_total{instance="z",namespace="other",decision="unverified"}': f"0+0x{_LONG}",
        'sluice_tokens_total{instance="a",decision="skipped"}': f"0+{skipped}x{_LONG}",
        'sluice_tokens_total{instance="a",decision="unverified"}': f"0+{unverified}x{_LONG}",
    }


_UP, _DOWN = f"1+0x{_LONG}", f"0+0x{_LONG}"
_NOW_AND_THEN = "0 1 0 0 " * (_LONG // 4)
_ONCE = f"0+0x56 1+0x{_LONG}"  # one event, two minutes ago
_EARLIER = f"0+0x4 1+0x{_LONG}"  # one event, long ago

CASES = {
    "SluiceServiceDown": Case(
        {'up{job="sluice-verifier",instance="a"}': _DOWN, 'up{job="sluice-verifier",instance="b"}': _UP},
        {'up{job="sluice-verifier",instance="a"}': f"1+0x61 0+0x1 1+0x{_LONG}", 'up{job="node",instance="a"}': _DOWN},
    ),
    "SluiceLinkDown": Case(
        {'sluice_link_up{instance="a",link="kafka"}': _DOWN, 'sluice_link_up{instance="a",link="redis"}': _UP},
        {'sluice_link_up{instance="a",link="kafka"}': _UP},
    ),
    "SluiceTokensUnverified": Case(_tokens(90, 10), _tokens(97, 3)),
    "SluiceNoVerdicts": Case(_tokens(40, 60), _tokens(90, 10)),
    "SluiceBreakerOpen": Case(
        _flat('sluice_breaker_state{instance="a",state="closed"}', 0)
        | _flat('sluice_breaker_state{instance="b",state="closed"}', 1),
        _flat('sluice_breaker_state{instance="a",state="closed"}', 1)
        | _flat('sluice_breaker_state{instance="a",state="open"}', 0),
    ),
    "SluiceQueueOld": Case(
        _flat('sluice_oldest_message_age_seconds{instance="a"}', 9)
        | _flat('sluice_oldest_message_age_seconds{instance="b"}', 0),
        _flat('sluice_oldest_message_age_seconds{instance="a"}', 1.5),
    ),
    "SluiceRoundsExpire": Case(
        _rising(sluice_expired_total=1) | {'sluice_verdicts_total{status="ok"}': f"0+9x{_LONG}"},
        _rising(sluice_expired_total=1) | {'sluice_verdicts_total{status="ok"}': f"0+99x{_LONG}"},
    ),
    "SluiceVerifiersSaturated": Case(
        _rising(sluice_engine_busy_seconds_total=14.7), _rising(sluice_engine_busy_seconds_total=12)
    ),
    "SluiceEngineFails": Case(
        {'sluice_engine_failures_total{instance="a"}': _ONCE}, {'sluice_engine_failures_total{instance="a"}': _EARLIER}
    ),
    "SluiceCacheRebuilds": Case(
        _rising(sluice_cache_rebuilds_total=3, sluice_cache_hits_total=7, sluice_cache_misses_total=3),
        _rising(sluice_cache_rebuilds_total=1, sluice_cache_hits_total=9, sluice_cache_misses_total=3),
    ),
    "SluiceRebalancing": Case(
        _rising(sluice_rebalances_total=0.5) | _flat("sluice_partitions", 4),
        _rising(sluice_rebalances_total=0.05) | _flat("sluice_partitions", 4),
    ),
    "SluiceDeadLetters": Case({"sluice_dead_letters_total": _ONCE}, {"sluice_dead_letters_total": _EARLIER}),
    "SluiceDeadLettersLost": Case({"sluice_dead_letters_lost_total": _ONCE}, {"sluice_dead_letters_lost_total": _EARLIER}),
    "SluiceLoopLag": Case(_lag(5), _lag(0.5)),
    "SluiceDrift": Case(
        _flat('sluice_drift_state{device_class="phone",state="drifted"}', 1)
        | _flat('sluice_drift_state{device_class="phone",state="inside"}', 0),
        _flat('sluice_drift_state{device_class="phone",state="drifted"}', 0)
        | _flat('sluice_drift_state{device_class="phone",state="inside"}', 1),
    ),
    "SluicePolicyInfeasible": Case(
        _flat('sluice_policy_infeasible{device_class="phone",budget="energy"}', 1),
        _flat('sluice_policy_infeasible{device_class="phone",budget="energy"}', 0),
    ),
    "SluicePolicyBlind": Case(
        {
            'sluice_policy_decisions_total{device_class="phone",source="hold"}': f"0+0x30 0+3x{_LONG}",
            'sluice_policy_devices{device_class="phone"}': _NOW_AND_THEN,
        },
        {
            'sluice_policy_decisions_total{device_class="phone",source="control"}': f"0+3x{_LONG}",
            'sluice_policy_decisions_total{device_class="phone",source="hold"}': _UP,
            'sluice_policy_devices{device_class="phone"}': f"4+0x{_LONG}",
            'sluice_policy_decisions_total{device_class="default",source="safe"}': f"0+3x{_LONG}",  # nobody is of it
            'sluice_policy_decisions_total{device_class="idle",source="safe"}': f"0+3x{_LONG}",
            'sluice_policy_devices{device_class="idle"}': _DOWN,
        },
    ),
    "SluicePolicyLease": Case(
        _flat('sluice_policy_leading{instance="a"}', 1) | _flat('sluice_policy_leading{instance="b"}', 1),
        _flat('sluice_policy_leading{instance="a"}', 1)
        | _flat('sluice_policy_leading{instance="b"}', 0)
        | _flat('sluice_policy_leading{instance="c",namespace="other"}', 1),
    ),
}
# Further ways to raise one, each with its quiet side.
MORE = (
    (
        "SluicePolicyBlind",  # it sees nobody; and it had a few seconds without inputs
        Case(
            {'sluice_policy_decisions_total{device_class="default",source="safe"}': f"0+3x{_LONG}"},
            {
                'sluice_policy_decisions_total{device_class="phone",source="hold"}': f"0+0x55 1+0x0 3+0x{_LONG}",
                'sluice_policy_devices{device_class="phone"}': f"4+0x{_LONG}",
            },
        ),
    ),
    (
        "SluicePolicyLease",  # no process any more, and never one
        Case({'sluice_policy_leading{instance="a"}': "1+0x30 stale"}, _flat('sluice_sessions{instance="a"}', 1)),
    ),
    (
        "SluiceServiceDown",
        Case({'up{job="monitoring/sluice-verifier",instance="a"}': _DOWN}, {'up{job="my-sluice",instance="a"}': _DOWN}),
    ),
)
