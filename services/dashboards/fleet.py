"""Fleet overview: are users fine, what is broken, where to look? One screen."""

from __future__ import annotations

from services.common.catalogue import edge, policy, shared, verifier
from services.dashboards.frame import Page, Row
from services.dashboards.measures import (
    BUSY,
    DAMAGE,
    DECISIONS,
    GOODPUT,
    JOULES_PER_TOKEN,
    ROUND_TRIP_P95,
    SEGMENTS,
    UNVERIFIED,
    limit,
    use,
)
from services.dashboards.parts import (
    BROKEN,
    GREEN,
    GREY,
    ORANGE,
    RED,
    RUNBOOK,
    TOKENS_A_SECOND,
    Box,
    Query,
    lines,
    link,
    states,
    tile,
)
from services.dashboards.promql import NAMESPACE, UP, increase, pick, rate, ratio, some, total
from services.dashboards.runbook import FILE, sections

LEADERLESS = (
    "Installations with not exactly one policy process that holds the lease. Where none does, edges go by their own settings."
)
FIRING = f'ALERTS{{{NAMESPACE}, alertname=~"Sluice.+", alertstate="firing"}}'


def page() -> Page:
    return Page(
        uid="sluice-fleet",
        title="Sluice / Fleet overview",
        asks="Are users fine, what is broken, and where should I look?",
        rows=(Row("Are users fine?", _users()), Row("What is broken?", _broken()), Row("Where to look", _causes())),
    )


def _users() -> list[Box]:
    failed, ended = total(increase(edge.ANSWERS, window="5m", end="error")), total(increase(edge.ANSWERS, window="5m"))
    return [
        tile(
            "Goodput",
            "Tokens a second that count: not unverified, of answers in time, while the damage is inside its bound.",
            TOKENS_A_SECOND,
            Query(GOODPUT, "goodput"),
            decimals=1,
            leads="sluice-edge-workers",
        ),
        tile(
            "Tokens without a verdict",
            "Share of answered tokens that had no verdict in time (5 minutes, worst namespace). Users get text, but the large "
            "model has not seen it. The alert begins at 5 %.",
            "percentunit",
            Query(UNVERIFIED, "share"),
            steps=((0.05, ORANGE), (0.5, RED)),
            alerts=("SluiceTokensUnverified", "SluiceNoVerdicts"),
            leads="sluice-verifiers",
            nothing=("no answers", GREY),
        ),
        tile(
            "Answers that failed",
            "Share of the answers of 5 minutes that ended in an error.",
            "percentunit",
            Query(ratio(failed, ended), "share"),
            steps=((0.01, ORANGE), (0.05, RED)),
            leads="sluice-edge-workers",
            nothing=("no answers", GREY),
        ),
        tile(
            "Round trip p95",
            "95th percentile of the time from an upload to its verdict (5 minutes, worst namespace). Dashboard Policy "
            "and budgets has its budget, if "
            "one is set.",
            "s",
            Query(ROUND_TRIP_P95, "p95"),
            leads="sluice-verifiers",
            nothing=("no rounds", GREY),
        ),
        tile(
            "Damage / its budget",
            "Measured damage of skipping, of the worst device class, as a share of its budget. Above 100 % the promise "
            "is broken; "
            "the policy aims at 97 %.",
            "percentunit",
            Query(f"max ({use(DAMAGE, 'damage')})", "use"),
            steps=((0.97, ORANGE), (1.0, RED)),
            alerts=("SluiceDrift", "SluicePolicyInfeasible"),
            leads="sluice-gate",
            nothing=("no audits", GREY),
        ),
        tile(
            "Energy per token",
            "Energy of an answered token, devices and verifiers together (5 minutes, worst namespace).",
            "joule",
            Query(JOULES_PER_TOKEN, "per token"),
            leads="sluice-energy",
            nothing=("no answers", GREY),
        ),
    ]


def _broken() -> list[Box]:
    down = f"sum ({UP} == bool 0)"
    links = f"sum ({pick(shared.LINK_UP)} == bool 0)"
    breakers = f"sum ({pick(edge.BREAKER_STATE, state='closed')} == bool 0)"
    drifted = f"sum (max by (device_class) ({pick(edge.DRIFT_STATE, state='drifted')}))"
    leaderless = f"sum (sum by (namespace) ({pick(policy.LEADING)}) != bool 1)"
    letters = total(increase(verifier.DEAD_LETTERS, window="10m"))
    alarm = "Alerts that fire now. The bands below name them, their links say what to do."
    return [
        tile("Alerts", alarm, "none", Query(f"count ({FIRING})", "firing"), steps=BROKEN, size=(3, 4), nothing=("0", GREEN)),
        _count("Services down", "Processes that do not answer their scrapes.", down, "SluiceServiceDown", "sluice-kafka-redis"),
        _count(
            "Links down",
            "Connections of services to Kafka, Redis or Prometheus that are lost.",
            links,
            "SluiceLinkDown",
            "sluice-kafka-redis",
        ),
        _count(
            "Breakers open",
            "Edge workers that stopped asking after a row of lost rounds.",
            breakers,
            "SluiceBreakerOpen",
            "sluice-edge-workers",
        ),
        _count(
            "Classes drifted",
            "Device classes with a worker whose damage is above its bound.",
            drifted,
            "SluiceDrift",
            "sluice-gate",
        ),
        _count("Policy leaderless", LEADERLESS, leaderless, "SluicePolicyLease", "sluice-policy"),
        _count(
            "Budgets missed",
            "Budgets that cannot be met together with those before them in the order of priority.",
            f"sum (max by (device_class, budget) ({pick(policy.INFEASIBLE)}))",
            "SluicePolicyInfeasible",
            "sluice-policy",
        ),
        _count(
            "Dead letters",
            "Messages set aside in ten minutes: malformed, unsigned or hostile.",
            letters,
            "SluiceDeadLetters",
            "sluice-kafka-redis",
        ),
    ]


def _count(title: str, text: str, expression: str, alert: str, leads: str) -> Box:
    """Red from the first one on: what Prometheus extrapolates lies a little below it."""
    now = Query(expression, "now")
    broken = ((0.5, RED),)
    return tile(title, text, "none", now, steps=broken, size=(3, 4), alerts=(alert,), decimals=0, leads=leads)


def _causes() -> list[Box]:
    lost = total(rate(edge.LOST_ROUNDS), "cause")
    segments = [Query(expression, name) for name, expression in SEGMENTS.items()]
    return [
        _alerts(),
        lines(
            "Tokens by decision",
            "What became of the answered tokens. Red, unverified, is what nobody wants.",
            "none",
            Query(total(rate(edge.TOKENS), "decision"), "{{decision}}"),
            stacked=True,
            colours=DECISIONS,
            size=(8, 7),
            alerts=("SluiceTokensUnverified",),
        ),
        lines(
            "Rounds lost, by cause",
            "Rounds a second without a verdict. kafka, redis: an outage; deadline: a slow or missing pool; overloaded: a "
            "budget of "
            "tokens is spent; others: the verifier refused.",
            "none",
            Query(some(lost), "{{cause}}"),
            size=(8, 7),
            nothing="none lost",
            alerts=("SluiceTokensUnverified", "SluiceBreakerOpen"),
        ),
        lines(
            "Where a round's time goes",
            "Mean of each segment. draft: the device; uplink: Kafka took it; queue: it waited; verify: the pass; "
            "downlink: Redis and "
            "the way back.",
            "s",
            *segments,
            stacked=True,
            size=(8, 7),
        ),
        lines(
            "Verifiers: busy share",
            "Share of the time that the engines compute, mean of the pool. At its budget the policy lowers the upload rate.",
            "percentunit",
            Query(BUSY, "busy"),
            limit("utilisation"),
            size=(8, 7),
            most=1.0,
            alerts=("SluiceVerifiersSaturated",),
        ),
        lines(
            "Oldest waiting message",
            "Age of the oldest message at a verifier. Rounds wait no longer than their deadline: beyond it work is for "
            "nothing.",
            "s",
            Query(f"max ({pick(verifier.OLDEST_AGE)})", "oldest"),
            steps=((5, RED),),
            size=(8, 7),
            alerts=("SluiceQueueOld", "SluiceRoundsExpire"),
        ),
    ]


def _alerts() -> Box:
    return states(
        "Alerts that fire",
        "A band for each alert while it fires. The link of the panel with its name says what to do; a click on a band "
        "leads to all.",
        Query(f"max by (alertname) ({FIRING})", "{{alertname}}"),
        names={"1": ("fires", RED)},
        size=(8, 7),
        alerts=tuple(sections(FILE.read_text())),
        nothing="no alert fires",
        click=link("Runbook", f"/d/{RUNBOOK}"),
    )
