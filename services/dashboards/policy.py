"""Policy and budgets: is each budget kept, who decides the knobs, and on what grounds?"""

from __future__ import annotations

from services.common.catalogue import edge, policy, shared
from services.dashboards.frame import Page, Row, device_class
from services.dashboards.measures import BUSY, DAMAGE, POOL_WATTS, limit, use
from services.dashboards.parts import BROKEN, GREEN, GREY, ORANGE, RED, Box, Query, bars, lines, states, tile
from services.dashboards.promql import (
    DEVICE_CLASS,
    buckets,
    increase,
    of_class,
    pick,
    quantile,
    quantile_of,
    rate,
    ratio,
    total,
)

_SPENT = 'component=~"draft|wait|radio"'  # what the budget of a device is about


def page() -> Page:
    return Page(
        uid="sluice-policy",
        title="Sluice / Policy and budgets",
        asks="Is each budget kept, who decides the knobs, and on what grounds?",
        rows=(Row("Who decides", _who()), Row("Budgets", _budgets()), Row("Knobs", _knobs()), Row("Grounds", _grounds())),
        variables=(device_class(),),
    )


def _who() -> list[Box]:
    by_hand_or_none, every = (increase(policy.DECISIONS, *kind, window="5m") for kind in (('source!="control"',), ()))
    busy = f"and on (namespace, device_class) max_over_time({pick(policy.DEVICES)}[5m]) > 0"
    uncontrolled = (
        f"{ratio(total(f'{by_hand_or_none} {busy}'), total(f'{every} {busy}'))}"
        f" or {ratio(total(by_hand_or_none), total(every))} unless on () {pick(policy.DEVICES)}"
    )
    return [
        tile(
            "Leaders, fewest of an installation",
            "Policy processes that hold the lease: one for each installation.",
            "none",
            Query(f"min (sum by (namespace) ({pick(policy.LEADING)}))", "leaders"),
            steps=((1, GREEN), (2, RED)),
            base=RED,
            alerts=("SluicePolicyLease",),
            nothing=("no policy", GREY),
        ),
        tile(
            "Decisions without control",
            "Share of the decisions of 5 minutes that held the knobs, fell to the safe setting, or were set by hand, of "
            "classes with "
            "answers under way.",
            "percentunit",
            Query(uncontrolled, "share"),
            steps=((0.01, ORANGE), (0.5, RED)),
            alerts=("SluicePolicyBlind",),
            nothing=("idle", GREY),
        ),
        tile(
            "Oldest input",
            "Age of the oldest figure that a decision was made from. Beyond 20 s (OLDEST_SECONDS) it is no input any more.",
            "s",
            Query(f"max ({pick(policy.INPUT_AGE, DEVICE_CLASS)})", "age"),
            steps=((15, ORANGE), (20, RED)),
            alerts=("SluicePolicyBlind",),
            nothing=("no inputs", GREY),
        ),
        tile(
            "Budgets missed",
            "Budgets that cannot be met together with those before them: damage, utilisation, watts, round trip, energy.",
            "none",
            Query(f"sum (max by (device_class, budget) ({pick(policy.INFEASIBLE, DEVICE_CLASS)}))", "missed"),
            steps=BROKEN,
            alerts=("SluicePolicyInfeasible",),
        ),
        tile(
            "Workers on their own settings",
            "Edge workers that follow no policy: none is published, it has run out, or they are set so.",
            "none",
            Query(f"sum ({pick(edge.POLICY_FOLLOWED, DEVICE_CLASS)} == bool 0)", "workers"),
            steps=((1, ORANGE),),
            alerts=("SluicePolicyLease",),
        ),
        tile(
            "Price of load",
            "What a unit of the pool's load costs in log goodput: 0 while no budget of the pool binds.",
            "none",
            Query(f"max ({pick(policy.PRICE)})", "price"),
        ),
    ]


def _budgets() -> list[Box]:
    trips = quantile_of(0.95, of_class(buckets(edge.ROUND_TRIP)), "device_class")
    joules = ratio(
        total(of_class(rate(shared.ENERGY, _SPENT)), "device_class"), total(of_class(rate(edge.TOKENS)), "device_class")
    )
    seen = ratio(
        total(of_class(rate(edge.AUDIT_REJECTION)), "device_class"), total(of_class(rate(edge.TOKENS)), "device_class")
    )
    return [
        bars(
            "Use of each budget",
            "Measured figure over budget, of the worst class. From 97 % on the policy acts, above 100 % the budget is "
            "missed. In "
            "their order of priority: the last gives way first. A budget that is not set has no bar.",
            "percentunit",
            Query(f"max ({use(DAMAGE, 'damage')})", "1 damage"),
            Query(use(BUSY, "utilisation"), "2 utilisation"),
            Query(use(POOL_WATTS, "watts"), "3 watts"),
            Query(f"max ({use(trips, 'round_trip')})", "4 round trip"),
            Query(f"max ({use(joules, 'energy')})", "5 energy"),
            steps=((0.97, ORANGE), (1.0, RED)),
        ),
        lines(
            "Damage",
            "Damage per answered token. audited: over 5 minutes, weighted by how likely each audit was; seen: what the "
            "policy acts on.",
            "percentunit",
            Query(DAMAGE, "audited {{device_class}}"),
            Query(seen, "seen {{device_class}}"),
            limit("damage"),
            alerts=("SluicePolicyInfeasible", "SluiceDrift"),
        ),
        lines(
            "Utilisation of the verifiers",
            "Share of the time that the engines compute, mean of the pool.",
            "percentunit",
            Query(BUSY, "busy"),
            limit("utilisation"),
            alerts=("SluiceVerifiersSaturated",),
        ),
        lines(
            "Power of the verifiers",
            "All verifiers together.",
            "watt",
            Query(POOL_WATTS, "pool"),
            limit("watts"),
            alerts=("SluicePolicyInfeasible",),
        ),
        lines(
            "Round trip p95",
            "95th percentile, upload to verdict, by device class.",
            "s",
            Query(trips, "{{device_class}}"),
            limit("round_trip"),
            alerts=("SluicePolicyInfeasible",),
        ),
        lines(
            "Energy of a token on the device",
            "Drafting, waiting and radio.",
            "joule",
            Query(joules, "{{device_class}}"),
            limit("energy"),
            alerts=("SluicePolicyInfeasible",),
        ),
    ]


def _knobs() -> list[Box]:
    newest = f"max ({pick(policy.VERSION)})"  # another leader's are millions higher
    return [
        lines(
            "k",
            "Most candidates of one upload: decided by the policy, and in force on edge workers (mean).",
            "none",
            Query(f"max by (device_class) ({pick(policy.K, DEVICE_CLASS)})", "decided {{device_class}}"),
            Query(f"avg by (device_class) ({pick(edge.KNOB_K, DEVICE_CLASS)})", "in force {{device_class}}"),
            size=(6, 8),
        ),
        lines(
            "gamma",
            "Strictness of the gate; a higher one skips more. limit: the largest that the damage budget allows.",
            "none",
            Query(f"max by (device_class) ({pick(policy.GAMMA, DEVICE_CLASS)})", "decided {{device_class}}"),
            Query(f"avg by (device_class) ({pick(edge.KNOB_GAMMA, DEVICE_CLASS)})", "in force {{device_class}}"),
            Query(f"min by (device_class) ({pick(policy.GAMMA_MAX, DEVICE_CLASS)})", "limit {{device_class}}"),
            size=(6, 8),
        ),
        lines(
            "Changes of a knob",
            "A minute. More than a few over a long time is oscillation: a wider band or a longer dwell time ends it.",
            "none",
            Query(f"60 * max by (device_class) ({rate(policy.CHANGES, DEVICE_CLASS)})", "{{device_class}}"),
            size=(6, 8),
        ),
        lines(
            "Records behind",
            "How many published records ago the slowest worker that follows the policy has got its knobs; 100: or more, "
            "as when "
            "another process has just taken over. A record is published with each decision.",
            "none",
            Query(f"clamp_max({newest} - min ({pick(edge.POLICY_FOLLOWED, DEVICE_CLASS)} > 0), 100)", "behind"),
            size=(6, 8),
        ),
    ]


def _grounds() -> list[Box]:
    missed = f"max by (budget) ({pick(policy.INFEASIBLE, DEVICE_CLASS)})"
    return [
        lines(
            "Decisions by who chose",
            "control: from inputs; hold: inputs are missing; safe: missing for too long; override: by hand. A second, "
            "all processes.",
            "none",
            Query(total(rate(policy.DECISIONS), "source"), "{{source}}"),
            stacked=True,
            colours={"control": GREEN, "hold": ORANGE, "safe": RED, "override": "purple"},
            size=(8, 7),
            alerts=("SluicePolicyBlind",),
        ),
        states(
            "Budgets that give way",
            "Red while a budget cannot be met together with those before it.",
            Query(missed, "{{budget}}"),
            names={"0": ("met", GREEN), "1": ("missed", RED)},
            size=(8, 7),
            alerts=("SluicePolicyInfeasible",),
        ),
        lines(
            "Age of inputs",
            "Of the oldest input of a class. Above the line it counts as missing.",
            "s",
            Query(f"max by (device_class) ({pick(policy.INPUT_AGE, DEVICE_CLASS)})", "{{device_class}}"),
            steps=((20, RED),),
            size=(8, 7),
            alerts=("SluicePolicyBlind",),
        ),
        lines(
            "Queries to Prometheus",
            "Time of one collection of all inputs, median and 95th percentile.",
            "s",
            *(Query(quantile(share, policy.COLLECT), f"p{share * 100:g}") for share in (0.5, 0.95)),
            size=(8, 7),
        ),
        lines(
            "Queries that failed",
            "Collections a minute without an answer of Prometheus.",
            "none",
            Query(f"60 * {total(rate(policy.COLLECT_FAILURES), 'cause')}", "{{cause}}"),
            size=(8, 7),
            alerts=("SluicePolicyBlind",),
        ),
        lines(
            "Edges left out",
            "Edge workers whose figures do not count: they say many times what the median worker of their class does. "
            "The policy's log "
            "names them; one that stays is broken or hostile.",
            "none",
            Query(f"max ({pick(policy.LEFT_OUT)})", "left out"),
            size=(8, 7),
        ),
    ]
