"""Energy: what does a token cost, where does it go, and how much of it is measured?"""

from __future__ import annotations

from services.common.catalogue import edge, shared, verifier
from services.dashboards.frame import Page, Row, device_class
from services.dashboards.measures import JOULES_PER_TOKEN, POOL_WATTS, TOKENS, limit
from services.dashboards.parts import Box, Query, lines, tile
from services.dashboards.promql import NAMESPACE, increase, of_class, of_verifiers, rate, ratio, some, total

_LABELS = "on () group_left ()"


def page() -> Page:
    return Page(
        uid="sluice-energy",
        title="Sluice / Energy",
        asks="What does a token cost, where does the energy go, and how much of it is measured?",
        rows=(Row("At a glance", _glance()), Row("Per token", _tokens()), Row("Power and bytes", _power())),
        variables=(device_class(),),
    )


def _glance() -> list[Box]:
    measured, every = (total(increase(shared.ENERGY, *kind, window="$__range")) for kind in (('source="measured"',), ()))
    accepted = f"max (sluice:uplink_bytes_per_accepted_token:rate5m{{{NAMESPACE}}})"
    return [
        tile(
            "Energy per token, all in",
            "Devices and verifiers, over answered tokens (5 minutes, worst namespace).",
            "joule",
            Query(JOULES_PER_TOKEN, "J"),
        ),
        tile(
            "On the device",
            "Energy of the edge workers over their answered tokens.",
            "joule",
            Query(ratio(total(of_class(rate(shared.ENERGY))), total(of_class(rate(edge.TOKENS)))), "J"),
        ),
        tile(
            "In the pool",
            "Energy of the verifiers over all answered tokens.",
            "joule",
            Query(ratio(POOL_WATTS, TOKENS), "J"),
        ),
        tile("Energy spent", "Everything, over the time shown.", "joule", Query(every, "J")),
        tile(
            "Measured",
            "Share of the energy that a meter has measured, over the time shown; the rest is estimated from a power model.",
            "percentunit",
            Query(ratio(measured, every), "measured"),
        ),
        tile(
            "Uplink per accepted token",
            "Bytes written towards Kafka and Redis for each token that the large model accepted (5 minutes, worst namespace).",
            "bytes",
            Query(accepted, "bytes"),
        ),
    ]


def _tokens() -> list[Box]:
    by_part = "{{component}}, {{source}}"
    return [
        lines(
            "Energy per token by component",
            "draft, wait, radio, idle: the device; verify, prefill, idle: the pool. estimated: from a power model, no meter.",
            "joule",
            Query(ratio(some(total(rate(shared.ENERGY), "component", "source")), TOKENS, on=_LABELS), by_part),
            stacked=True,
            size=(10, 9),
        ),
        lines(
            "On the device, by class",
            "Energy of a class's workers over their answered tokens, without idling: what its budget is about.",
            "joule",
            Query(
                ratio(
                    total(of_class(rate(shared.ENERGY, 'component=~"draft|wait|radio"')), "device_class"),
                    total(of_class(rate(edge.TOKENS)), "device_class"),
                ),
                "{{device_class}}",
            ),
            limit("energy"),
            size=(7, 9),
            alerts=("SluicePolicyInfeasible",),
        ),
        lines(
            "In the pool, per verified token",
            "Energy of the verifiers over tokens of ok verdicts, by component.",
            "joule",
            Query(
                ratio(
                    some(total(of_verifiers(rate(shared.ENERGY)), "component")),
                    total(rate(verifier.VERIFIED_TOKENS)),
                    on=_LABELS,
                ),
                "{{component}}",
            ),
            stacked=True,
            size=(7, 9),
        ),
    ]


def _power() -> list[Box]:
    return [
        lines(
            "Power of the devices, by component",
            "All edge workers of the chosen classes.",
            "watt",
            Query(some(total(of_class(rate(shared.ENERGY)), "component")), "{{component}}"),
            stacked=True,
        ),
        lines(
            "Power of the verifiers, by component",
            "The whole pool, and its budget.",
            "watt",
            Query(some(total(of_verifiers(rate(shared.ENERGY)), "component")), "{{component}}"),
            limit("watts"),
            stacked=True,
            alerts=("SluicePolicyInfeasible",),
        ),
        lines(
            "Uplink by channel",
            "Bytes a second that edge workers send: kafka carries candidates, redis the waiting for verdicts.",
            "Bps",
            Query(total(of_class(rate(edge.UPLINK_BYTES)), "channel"), "{{channel}}"),
            stacked=True,
        ),
    ]
