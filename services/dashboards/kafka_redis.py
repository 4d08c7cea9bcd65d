"""Kafka and Redis: can everybody reach them, are they fast, and do partitions stay where they are?"""

from __future__ import annotations

from services.common.catalogue import edge, shared, verifier
from services.dashboards.frame import Page, Row
from services.dashboards.measures import SEGMENTS
from services.dashboards.parts import BROKEN, GREEN, GREY, ORANGE, RED, Box, Query, lines, states, tile
from services.dashboards.promql import UP, increase, pick, quantile, rate, total


def page() -> Page:
    return Page(
        uid="sluice-kafka-redis",
        title="Sluice / Kafka and Redis",
        asks="Can every service reach Kafka and Redis, are they fast, and do partitions stay where they are?",
        rows=(
            Row("Reachability", _reach()),
            Row("Speed", _speed()),
            Row("Partitions", _partitions()),
            Row("Messages that went wrong", _messages()),
        ),
    )


def _reach() -> list[Box]:
    worst = f"min by (job, link) ({pick(shared.LINK_UP)})"
    return [
        _lost("Kafka lost by", "Services whose link to Kafka is down.", "kafka"),
        _lost("Redis lost by", "Services whose link to Redis is down.", "redis"),
        tile(
            "Partitions read",
            "Partitions of the candidates' topic that verifiers own. Fewer than the topic has: nobody reads the rest.",
            "none",
            Query(f"sum ({pick(verifier.PARTITIONS)})", "owned"),
            alerts=("SluiceRebalancing",),
            nothing=("no verifier", GREY),
            size=(3, 8),
        ),
        states(
            "Links, worst of each job",
            "Red while a process of the job has lost its link. One red band: look there. All bands of kafka or of redis: "
            "that part is down.",
            Query(worst, "{{job}} {{link}}"),
            names={"0": ("lost", RED), "1": ("up", GREEN)},
            size=(9, 8),
            alerts=("SluiceLinkDown",),
        ),
        lines(
            "Processes that answer, by job",
            "Those that Prometheus could scrape. Prometheus itself forgets a process that its discovery does not name "
            "any more.",
            "none",
            Query(f"sum by (job) ({UP})", "{{job}}"),
            size=(6, 8),
            alerts=("SluiceServiceDown",),
        ),
    ]


def _lost(title: str, text: str, link: str) -> Box:
    down = Query(f"sum ({pick(shared.LINK_UP, link=link)} == bool 0)", "services")
    return tile(title, text, "none", down, steps=BROKEN, alerts=("SluiceLinkDown",), size=(3, 8))


def _speed() -> list[Box]:
    return [
        lines(
            "Kafka: upload to acknowledgement",
            "Seen by edge workers, quantiles of all rounds.",
            "s",
            *(Query(quantile(share, edge.ROUND_UPLINK), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)),
        ),
        lines(
            "Redis: verdict stored and back",
            "Round trip without upload, queue and pass, quantiles of all rounds.",
            "s",
            *(Query(quantile(share, edge.ROUND_DOWNLINK), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)),
        ),
        lines(
            "Where a round's time goes",
            "Mean of each segment.",
            "s",
            *(Query(expression, name) for name, expression in SEGMENTS.items()),
            stacked=True,
        ),
    ]


def _partitions() -> list[Box]:
    return [
        lines(
            "Messages not read, by verifier",
            "In the partitions that each one owns. All high: the pool is too small; one high: that verifier.",
            "none",
            Query(pick(verifier.LAG), "{{instance}}"),
            stacked=True,
            alerts=("SluiceQueueOld",),
        ),
        lines(
            "Partitions, by verifier",
            "How evenly the topic is shared. A verifier with none has nothing to do.",
            "none",
            Query(pick(verifier.PARTITIONS), "{{instance}}"),
            stacked=True,
            alerts=("SluiceRebalancing",),
        ),
        lines(
            "Rebalances",
            "Assignments that verifiers received, a minute. A few at a rollout; all the time: see the runbook.",
            "none",
            Query(f"60 * {total(rate(verifier.REBALANCES))}", "assignments"),
            Query(f"60 * {total(rate(verifier.CONSUMERS_REBUILT))}", "clients built anew"),
            alerts=("SluiceRebalancing",),
        ),
        lines(
            "Pause of a rebalance",
            "From giving partitions up to having some again, 95th percentile: nothing of them is read meanwhile.",
            "s",
            Query(quantile(0.95, verifier.REBALANCE_PAUSE, whole=True), "p95 over the time shown"),
            alerts=("SluiceRebalancing",),
            nothing="no rebalance",
        ),
        lines(
            "Uplink by channel",
            "Bytes a second written by edge workers towards Kafka and Redis.",
            "Bps",
            Query(total(rate(edge.UPLINK_BYTES, 'channel=~"kafka|redis"'), "channel"), "{{channel}}"),
            stacked=True,
        ),
        lines(
            "Event loop lag p99",
            "Worst process of each job. A late loop misses heartbeats, and partitions move.",
            "s",
            Query(f"max by (job) ({pick('sluice:loop_lag_seconds:p99_rate5m')})", "{{job}}"),
            steps=((0.02, RED),),
            alerts=("SluiceLoopLag",),
        ),
    ]


def _messages() -> list[Box]:
    outages = 'cause=~"kafka|redis|deadline"'
    return [
        lines(
            "Rounds lost to outages",
            "A second: kafka and redis could not be reached; deadline: no verdict came.",
            "none",
            Query(total(rate(edge.LOST_ROUNDS, outages), "cause"), "{{cause}}"),
            alerts=("SluiceTokensUnverified",),
        ),
        lines(
            "Verdicts not used, or sent again",
            "late, ended: they came after their round or answer; sent again: a stored verdict was asked for twice.",
            "none",
            Query(total(rate(edge.DROPPED_VERDICTS), "reason"), "{{reason}}"),
            Query(total(rate(verifier.VERDICTS_RESENT)), "sent again"),
        ),
        lines(
            "Dead letters",
            "Messages of ten minutes: set aside with a reason, and those for which not even that was possible.",
            "none",
            Query(total(increase(verifier.DEAD_LETTERS, window="10m")), "set aside"),
            Query(total(increase(verifier.DEAD_LETTERS_LOST, window="10m")), "lost"),
            steps=((1, ORANGE),),
            alerts=("SluiceDeadLetters", "SluiceDeadLettersLost"),
        ),
    ]
