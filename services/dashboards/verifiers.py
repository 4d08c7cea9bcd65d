"""Verifier pool: does it keep up, and if not, why?"""

from __future__ import annotations

from services.common.catalogue import shared, verifier
from services.dashboards.frame import Page, Row, instance
from services.dashboards.measures import limit
from services.dashboards.parts import BROKEN, GREEN, GREY, ORANGE, RED, TOKENS_A_SECOND, Box, Query, heat, lines, tile
from services.dashboards.promql import (
    INSTANCE,
    NAMESPACE,
    buckets,
    increase,
    of_verifiers,
    pick,
    quantile,
    rate,
    ratio,
    some,
    total,
)

_WAITS = (0.5, 0.95, 0.99)


def page() -> Page:
    return Page(
        uid="sluice-verifiers",
        title="Sluice / Verifier pool",
        asks="Does the pool keep up, and if not, which verifier or which step is slow?",
        rows=(
            Row("At a glance", _glance()),
            Row("Load", _load()),
            Row("Work", _work()),
            Row("Caches and failures", _failures()),
        ),
        variables=(instance(verifier.PARTITIONS.series),),
    )


def _glance() -> list[Box]:
    oldest, used, slots = (pick(metric, INSTANCE) for metric in (verifier.OLDEST_AGE, verifier.SLOTS_USED, verifier.SLOTS))
    return [
        tile(
            "Verifiers",
            "Verifiers that answer their scrapes.",
            "none",
            Query(f"count ({oldest})", "up"),
            steps=((1, GREEN),),
            base=RED,
            nothing=("0", RED),
            size=(3, 4),
        ),
        tile(
            "Busy",
            "Share of the time that the engines compute, mean of the pool. The policy keeps it at its budget.",
            "percentunit",
            Query(f"avg ({rate(verifier.ENGINE_BUSY, INSTANCE)})", "busy"),
            steps=((0.8, ORANGE), (0.95, RED)),
            alerts=("SluiceVerifiersSaturated",),
            size=(3, 4),
        ),
        tile(
            "Oldest message",
            "Age of the oldest message that is read and not finished, of the worst verifier.",
            "s",
            Query(f"max ({oldest})", "age"),
            steps=((1, ORANGE), (5, RED)),
            alerts=("SluiceQueueOld",),
            size=(3, 4),
        ),
        tile(
            "Not yet read",
            "Messages in the verifiers' partitions that nobody has read: what scales the pool.",
            "none",
            Query(f"sum ({pick(verifier.LAG, INSTANCE)})", "lag"),
            size=(3, 4),
        ),
        tile(
            "Rounds expired",
            "Share of the rounds that were too old when their turn came (5 minutes, worst namespace).",
            "percentunit",
            Query(f"max (sluice:expired_rounds:ratio_rate5m{{{NAMESPACE}}})", "expired"),
            steps=((0.01, ORANGE), (0.05, RED)),
            alerts=("SluiceRoundsExpire",),
            nothing=("no rounds", GREY),
            size=(3, 4),
        ),
        tile(
            "Slots in use",
            "Share of the slots that hold a session, of the fullest verifier. Full is usual: a session keeps its slot until "
            "another needs it. Many sessions fed again (below) are not.",
            "percentunit",
            Query(f"max ({used} / {slots})", "used"),
            alerts=("SluiceCacheRebuilds",),
            size=(3, 4),
        ),
        tile(
            "Verified tokens",
            "Tokens of ok verdicts, a second.",
            TOKENS_A_SECOND,
            Query(total(rate(verifier.VERIFIED_TOKENS, INSTANCE)), "tokens"),
            size=(3, 4),
        ),
        tile(
            "Engine failures",
            "Forward passes that raised, in ten minutes.",
            "none",
            Query(total(increase(verifier.ENGINE_FAILURES, INSTANCE, window="10m")), "failed"),
            steps=BROKEN,
            alerts=("SluiceEngineFails",),
            size=(3, 4),
        ),
    ]


def _load() -> list[Box]:
    waits = [Query(quantile(share, verifier.QUEUE, INSTANCE), f"p{share * 100:g}") for share in _WAITS]
    passes = [Query(quantile(share, verifier.VERIFY, INSTANCE), f"p{share * 100:g}") for share in _WAITS]
    return [
        lines(
            "Busy, by verifier",
            "Share of the time that each engine computes. One far above the others has the busy partitions.",
            "percentunit",
            Query(rate(verifier.ENGINE_BUSY, INSTANCE), "{{instance}}"),
            limit("utilisation"),
            most=1.0,
            alerts=("SluiceVerifiersSaturated",),
        ),
        lines(
            "Wait before the pass",
            "From the broker's append to the forward pass, quantiles of all rounds.",
            "s",
            *waits,
            alerts=("SluiceQueueOld",),
        ),
        lines(
            "Forward pass with judgement",
            "Quantiles of passes over spans. It grows with batch size and length of the texts.",
            "s",
            *passes,
        ),
        lines(
            "Messages waiting, by verifier",
            "read: taken from Kafka and not finished; unread: still in the verifier's partitions.",
            "none",
            Query(pick(verifier.QUEUED, INSTANCE), "read {{instance}}"),
            Query(pick(verifier.LAG, INSTANCE), "unread {{instance}}"),
            alerts=("SluiceQueueOld",),
        ),
        lines(
            "Oldest message, by verifier",
            "Age of the oldest message read and not finished. One verifier far above the others is stuck.",
            "s",
            Query(pick(verifier.OLDEST_AGE, INSTANCE), "{{instance}}"),
            steps=((5, RED),),
            alerts=("SluiceQueueOld",),
        ),
        lines(
            "Event loop lag p99, by verifier",
            "How late the event loop is. Above 20 ms heartbeats and health answers suffer.",
            "s",
            Query(of_verifiers(f"sluice:loop_lag_seconds:p99_rate5m{{{NAMESPACE}}}", INSTANCE), "{{instance}}"),
            steps=((0.02, RED),),
            alerts=("SluiceLoopLag",),
        ),
    ]


def _work() -> list[Box]:
    return [
        heat(
            "Sessions in a pass",
            "How many sessions share a pass: many is cheap. All in the lowest row under load: nothing is batched.",
            "none",
            Query(total(buckets(verifier.BATCH_SESSIONS, INSTANCE), "le"), "{{le}}"),
        ),
        lines(
            "Verdicts by status",
            "Rounds answered a second. ok is work; the others are refusals, whose names the docs of the protocol explain.",
            "none",
            Query(some(total(rate(verifier.VERDICTS, INSTANCE), "status")), "{{status}}"),
            stacked=True,
            nothing="no rounds",
        ),
        lines(
            "Tokens through the target",
            "verify: spans; prefill: prompts and rebuilt sessions; copied: from a session with the same beginning. If "
            "prefill leads, long prompts or lost caches are the load.",
            "none",
            Query(total(rate(verifier.PROCESSED_TOKENS, INSTANCE), "phase"), "{{phase}}"),
            Query(total(rate(verifier.SHARED_TOKENS, INSTANCE)), "copied, not fed"),
            stacked=True,
        ),
        lines(
            "Verified tokens by decision",
            "Of ok verdicts. corrected rises where the draft is wrong, skipped where the gate lets more pass.",
            "none",
            Query(total(rate(verifier.VERIFIED_TOKENS, INSTANCE), "decision"), "{{decision}}"),
            stacked=True,
        ),
        lines(
            "Tokens per pass and session",
            "Mean number of tokens of one session's part of a pass, by phase.",
            "none",
            Query(
                ratio(
                    total(rate(verifier.PROCESSED_TOKENS, INSTANCE), "phase"), total(rate(verifier.PASSES, INSTANCE), "phase")
                ),
                "{{phase}}",
            ),
        ),
        lines(
            "Energy per verified token",
            "Of the verifiers, by what it went to, over tokens of ok verdicts.",
            "joule",
            Query(
                ratio(
                    some(total(of_verifiers(rate(shared.ENERGY), INSTANCE), "component")),
                    total(rate(verifier.VERIFIED_TOKENS, INSTANCE)),
                    on="on () group_left ()",
                ),
                "{{component}}",
            ),
            stacked=True,
        ),
    ]


def _failures() -> list[Box]:
    lookups = f"({total(rate(verifier.CACHE_HITS, INSTANCE))} + {total(rate(verifier.CACHE_MISSES, INSTANCE))})"
    return [
        lines(
            "Cache",
            "Shares of rounds. hit: the session's slot was there; rebuilt: it had been, and was fed again.",
            "percentunit",
            Query(ratio(total(rate(verifier.CACHE_HITS, INSTANCE)), lookups), "hit"),
            Query(ratio(total(rate(verifier.CACHE_REBUILDS, INSTANCE)), lookups), "rebuilt"),
            most=1.0,
            steps=((0.2, RED),),
            alerts=("SluiceCacheRebuilds",),
        ),
        lines(
            "Tokens fed again",
            "For sessions whose slot was lost, a second: passes spent on nothing new.",
            "none",
            Query(total(rate(verifier.REBUILT_TOKENS, INSTANCE)), "rebuilt"),
            alerts=("SluiceCacheRebuilds",),
        ),
        lines(
            "Slots, by verifier",
            "Slots that hold a session, and how many there are (dashed, smallest verifier).",
            "none",
            Query(pick(verifier.SLOTS_USED, INSTANCE), "{{instance}}"),
            Query(f"min ({pick(verifier.SLOTS, INSTANCE)})", "all slots", limit=True),
        ),
        lines(
            "Rounds for nothing",
            "A second. expired: too old; lost race: another verdict stood already; sent again: a stored verdict was "
            "asked for twice.",
            "none",
            Query(total(rate(verifier.EXPIRED, INSTANCE)), "expired"),
            Query(total(rate(verifier.LOST_RACES, INSTANCE)), "lost race"),
            Query(total(rate(verifier.VERDICTS_RESENT, INSTANCE)), "sent again"),
            size=(6, 8),
            alerts=("SluiceRoundsExpire",),
        ),
        lines(
            "Refused for a budget of tokens",
            "Messages a second refused because a worker or a tenant has spent its tokens.",
            "none",
            Query(total(rate(verifier.OVER_BUDGET, INSTANCE), "scope"), "{{scope}}"),
            size=(6, 8),
        ),
        lines(
            "Engine failures, by verifier",
            "Forward passes that raised, a second.",
            "none",
            Query(rate(verifier.ENGINE_FAILURES, INSTANCE), "{{instance}}"),
            size=(6, 8),
            alerts=("SluiceEngineFails",),
        ),
        lines(
            "Memory of the caches, by verifier",
            "Keys and values of all slots; it is taken at the start and stays.",
            "bytes",
            Query(pick(verifier.CACHE_BYTES, INSTANCE), "{{instance}}"),
            size=(6, 8),
        ),
    ]
