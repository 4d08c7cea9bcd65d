"""Edge workers: are the devices themselves well, and how much do they have to do?"""

from __future__ import annotations

from services.common.catalogue import edge, shared
from services.dashboards.frame import Page, Row, device_class
from services.dashboards.parts import BROKEN, GREY, ORANGE, RED, TOKENS_A_SECOND, Box, Query, lines, tile
from services.dashboards.promql import DEVICE_CLASS, NAMESPACE, buckets, of_class, pick, quantile_of, rate, ratio, some, total


def page() -> Page:
    return Page(
        uid="sluice-edge-workers",
        title="Sluice / Edge workers",
        asks="Are the devices well, how much do they have to do, and what do their rounds die of?",
        rows=(Row("At a glance", _glance()), Row("Answers", _answers()), Row("Rounds", _rounds())),
        variables=(device_class(),),
    )


def _glance() -> list[Box]:
    open_breakers = of_class(f"({pick(edge.BREAKER_STATE, state='closed')} == bool 0)")
    lost = total(of_class(rate(edge.LOST_ROUNDS)))
    return [
        tile(
            "Workers",
            "Edge workers that answer their scrapes.",
            "none",
            Query(f"count ({pick(edge.GAMMA_BOUND, DEVICE_CLASS)})", "up"),
        ),
        tile(
            "Answers being written",
            "At this moment, all workers.",
            "none",
            Query(total(of_class(pick(edge.SESSIONS))), "answers"),
        ),
        tile(
            "Tokens",
            "Answered tokens a second, good or not.",
            TOKENS_A_SECOND,
            Query(total(of_class(rate(edge.TOKENS))), "tokens"),
        ),
        tile(
            "Breakers not closed",
            "Workers that have stopped asking verifiers, or try again with one round.",
            "none",
            Query(total(open_breakers), "workers"),
            steps=BROKEN,
            alerts=("SluiceBreakerOpen",),
        ),
        tile(
            "Rounds lost",
            "Share of the rounds, attempts included, that got no verdict.",
            "percentunit",
            Query(ratio(lost, f"({total(of_class(rate(edge.ROUNDS)))} + {lost})"), "lost"),
            steps=((0.01, ORANGE), (0.1, RED)),
            nothing=("no rounds", GREY),
            alerts=("SluiceTokensUnverified",),
        ),
        tile(
            "Event loop lag p99",
            "Of the worst worker. Above 20 ms verdicts wait for the loop.",
            "s",
            Query(f"max ({of_class(f'sluice:loop_lag_seconds:p99_rate5m{{{NAMESPACE}}}')})", "late"),
            steps=((0.02, ORANGE), (0.1, RED)),
            alerts=("SluiceLoopLag",),
        ),
    ]


def _answers() -> list[Box]:
    steps = of_class(buckets(edge.DRAFT_STEP))
    return [
        lines(
            "Answers by how they ended",
            "A second. error: on_outage says that no verdict is an error, or the worker failed; stopped: the client went away.",
            "none",
            Query(total(of_class(rate(edge.ANSWERS)), "end"), "{{end}}"),
            stacked=True,
            colours={"stop": "green", "length": "blue", "error": "red", "stopped": "orange"},
        ),
        lines(
            "Tokens by class",
            "Answered tokens a second, and those that count as goodput.",
            "none",
            Query(total(of_class(rate(edge.TOKENS)), "device_class"), "all {{device_class}}"),
            Query(total(of_class(rate(edge.GOOD_TOKENS)), "device_class"), "good {{device_class}}"),
        ),
        lines(
            "Draft step",
            "Time that one token of the small model takes, median and 95th percentile by class. It grows with answers at "
            "a time.",
            "s",
            Query(quantile_of(0.5, steps, "device_class"), "p50 {{device_class}}"),
            Query(quantile_of(0.95, steps, "device_class"), "p95 {{device_class}}"),
        ),
        lines(
            "Answers being written, by class",
            "At a time. A worker at its SESSIONS refuses more with status 429.",
            "none",
            Query(total(of_class(pick(edge.SESSIONS)), "device_class"), "{{device_class}}"),
            stacked=True,
        ),
        lines(
            "Event loop lag p99, worst ten",
            "How late the event loops are.",
            "s",
            Query(f"topk(10, {of_class(f'sluice:loop_lag_seconds:p99_rate5m{{{NAMESPACE}}}')})", "{{instance}}"),
            steps=((0.02, RED),),
            alerts=("SluiceLoopLag",),
        ),
        lines(
            "Power by component",
            "Of the chosen classes.",
            "watt",
            Query(some(total(of_class(rate(shared.ENERGY)), "component")), "{{component}}"),
            stacked=True,
        ),
    ]


def _rounds() -> list[Box]:
    return [
        lines(
            "Rounds",
            "A second: those with an ok verdict, and those lost.",
            "none",
            Query(total(of_class(rate(edge.ROUNDS))), "ok"),
            Query(total(of_class(rate(edge.LOST_ROUNDS))), "lost"),
            colours={"ok": "green", "lost": "red"},
            size=(6, 8),
        ),
        lines(
            "Candidates per round",
            "Mean number of tokens that a round with an ok verdict asked about; k bounds it.",
            "none",
            Query(ratio(total(of_class(rate(edge.CANDIDATES))), total(of_class(rate(edge.ROUNDS)))), "candidates"),
            size=(6, 8),
        ),
        lines(
            "Rounds lost, by cause and class",
            "A second. kafka, redis: an outage; deadline: a slow or missing pool; overloaded: a budget of tokens is spent.",
            "none",
            Query(some(total(of_class(rate(edge.LOST_ROUNDS)), "cause", "device_class")), "{{cause}} {{device_class}}"),
            nothing="none lost",
            size=(6, 8),
            alerts=("SluiceTokensUnverified", "SluiceNoVerdicts"),
        ),
        lines(
            "Breakers",
            "Openings a minute by cause, and breakers that are open now.",
            "none",
            Query(f"60 * {some(total(of_class(rate(edge.BREAKER_OPENED)), 'cause'))}", "opened: {{cause}}"),
            Query(total(of_class(pick(edge.BREAKER_STATE, state="open"))), "open now"),
            size=(6, 8),
            alerts=("SluiceBreakerOpen",),
        ),
    ]
