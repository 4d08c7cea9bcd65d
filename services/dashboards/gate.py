"""Gate and quality: what the gate lets pass, how often it is wrong, and whether the damage stays inside its bound."""

from __future__ import annotations

from services.common.catalogue import edge
from services.common.catalogue.metric import Metric
from services.dashboards.frame import Page, Row, device_class
from services.dashboards.measures import DECISIONS, limit
from services.dashboards.parts import GREEN, GREY, ORANGE, RED, Box, Query, columns, heat, lines, states, tile
from services.dashboards.promql import DEVICE_CLASS, NAMESPACE, buckets, increase, of_class, pick, rate, ratio, total


def page() -> Page:
    return Page(
        uid="sluice-gate",
        title="Sluice / Gate and quality",
        asks="Is the gate right about what it lets pass, and is the damage inside its bound?",
        rows=(
            Row("Damage", _damage()),
            Row("What becomes of a token", _tokens()),
            Row("The gate's scores", _scores()),
            Row("Drift", _drift()),
        ),
        variables=(device_class(),),
    )


def _share(decisions: str) -> str:
    """Of answered tokens."""
    return ratio(total(of_class(rate(edge.TOKENS, f'decision=~"{decisions}"'))), total(of_class(rate(edge.TOKENS))))


def _damage() -> list[Box]:
    per_token = f"max by (device_class) (sluice:damage_per_token:ratio_rate5m{{{NAMESPACE}, {DEVICE_CLASS}}})"
    per_answer = ratio(
        total(increase(edge.WATCHED_DAMAGE, DEVICE_CLASS, window="5m"), "device_class"),
        total(increase(edge.WATCHED_ANSWERS, DEVICE_CLASS, window="5m"), "device_class"),
    )
    clipped = ratio(
        total(increase(edge.WATCHED_CLIPPED, DEVICE_CLASS, window="$__range")),
        f"({total(increase(edge.WATCHED_CLIPPED, DEVICE_CLASS, window='$__range'))}"
        f" + {total(increase(edge.WATCHED_DAMAGE, DEVICE_CLASS, window='$__range'))})",
    )
    unaudited = ratio(
        total(increase(edge.UNAUDITED, DEVICE_CLASS, window="5m")),
        f"({total(increase(edge.UNAUDITED, DEVICE_CLASS, window='5m'))}"
        f" + {total(increase(edge.AUDITED, DEVICE_CLASS, window='5m'))})",
    )
    return [
        lines(
            "Damage per token",
            "Expected share of answered tokens that the large model would have refused, from audits, weighted by how "
            "likely each was. "
            "The line is the policy's budget.",
            "percentunit",
            Query(per_token, "{{device_class}}"),
            limit("damage"),
            size=(10, 8),
            alerts=("SluicePolicyInfeasible",),
        ),
        lines(
            "Damage per answer",
            "Mean damage of the answers that the drift estimate counts, clipped: what the bound on gamma is decided by.",
            "none",
            Query(per_answer, "{{device_class}}"),
            size=(8, 8),
            alerts=("SluiceDrift",),
        ),
        tile(
            "Damage that the clip hides",
            "Share of the damage that was cut off at the clip, over the time shown. Much of it: the estimate is too kind.",
            "percentunit",
            Query(clipped, "clipped"),
            steps=((0.05, ORANGE), (0.2, RED)),
            size=(3, 8),
            nothing=("no audits", GREY),
        ),
        tile(
            "Skipped tokens without an audit",
            "Share of skipped tokens that neither a round nor the draw of audits covered. Their answers do not count for "
            "the damage.",
            "percentunit",
            Query(unaudited, "unaudited"),
            steps=((0.05, ORANGE), (0.2, RED)),
            size=(3, 8),
            nothing=("none skipped", GREY),
        ),
    ]


def _tokens() -> list[Box]:
    by_position = ratio(
        total(of_class(rate(edge.ACCEPTED_POSITION)), "position"), total(of_class(rate(edge.JUDGED_POSITION)), "position")
    )
    kept, rounds = (f"rate({pick(f'{edge.KEPT_TOKENS.name}_{end}')}[$__rate_interval])" for end in ("sum", "count"))
    return [
        lines(
            "Share of tokens by decision",
            "skipped: the gate let it pass; accepted, corrected: the large model judged it; bonus: it added one; "
            "unverified: no "
            "verdict in time.",
            "percentunit",
            Query(
                ratio(
                    total(of_class(rate(edge.TOKENS)), "decision"),
                    total(of_class(rate(edge.TOKENS))),
                    on="on () group_left ()",
                ),
                "{{decision}}",
            ),
            stacked=True,
            most=1.0,
            colours=DECISIONS,
            alerts=("SluiceTokensUnverified",),
        ),
        lines(
            "Upload rate",
            "Share of answered tokens that were sent for judgement. This is what the policy steers by k and gamma.",
            "percentunit",
            Query(_share("accepted|corrected"), "uploaded"),
            size=(5, 8),
        ),
        lines(
            "Tokens kept per round",
            "Mean number of tokens that a verdict kept of a span: how far one round trip reaches.",
            "none",
            Query(ratio(total(of_class(kept)), total(of_class(rounds))), "kept"),
            size=(5, 8),
        ),
        lines(
            "Acceptance by position",
            "Share of candidates accepted, by their number in the upload. A k beyond the position where it falls off is "
            "wasted.",
            "percentunit",
            Query(by_position, "{{position}}"),
            size=(6, 8),
            most=1.0,
        ),
    ]


def _scores() -> list[Box]:
    def by_score(part: str, whole: str) -> str:
        return ratio(total(part, "score"), total(whole, "score"))

    refused = by_score(
        of_class(increase(edge.REFUSED_SCORE, window="$__range")), of_class(increase(edge.JUDGED_SCORE, window="$__range"))
    )
    audited = by_score(
        of_class(increase(edge.AUDIT_REJECTION, window="$__range")), of_class(increase(edge.AUDITED_SCORE, window="$__range"))
    )
    return [
        heat(
            "Gate scores",
            "Scores of drafted tokens, a second: 0 is sure, 1 is not. A shift to the right means harder texts, or a drift.",
            "none",
            Query(total(of_class(buckets(edge.GATE_SCORE)), "le"), "{{le}}"),
            size=(8, 9),
        ),
        columns(
            "Refused, by score",
            "Share of uploaded candidates that the large model corrected, by the upper end of their score's bin. It must "
            "rise: a gate "
            "whose scores tell nothing has bars of one length.",
            "percentunit",
            "score",
            Query(refused, "{{score}}", instant=True),
            size=(5, 9),
        ),
        columns(
            "Rejection of skipped tokens, by score",
            "Mean probability, from audits, that the large model would have refused a skipped token of that score.",
            "percentunit",
            "score",
            Query(audited, "{{score}}", instant=True),
            size=(5, 9),
        ),
        lines(
            "Strictness in force",
            "gamma of new answers, and the largest that the drift loop allows, mean of the workers of a class. A higher "
            "gamma skips more.",
            "none",
            Query(f"avg by (device_class) ({pick(edge.KNOB_GAMMA, DEVICE_CLASS)})", "gamma {{device_class}}"),
            Query(f"avg by (device_class) ({pick(edge.GAMMA_BOUND, DEVICE_CLASS)})", "bound {{device_class}}"),
            size=(6, 9),
        ),
    ]


def _drift() -> list[Box]:
    def worst(metric: Metric, how: str) -> str:
        return f"{how} by (device_class) ({pick(metric, DEVICE_CLASS)})"

    drifted, inside = (pick(edge.DRIFT_STATE, DEVICE_CLASS, state=state) for state in ("drifted", "inside"))
    state = f"max by (device_class) (2 * {drifted} + on (namespace, instance, device_class) {inside})"
    return [
        lines(
            "Damage and its confidence limits",
            "Per answer, of the worker with the highest lower limit of each class. Drift is when the lower limit is "
            "above the bound; "
            "without a calibration there is no bound.",
            "none",
            Query(worst(edge.DRIFT_DAMAGE, "max"), "mean {{device_class}}"),
            Query(worst(edge.DRIFT_LOWER, "max"), "lower {{device_class}}"),
            Query(worst(edge.DRIFT_UPPER, "max"), "upper {{device_class}}"),
            Query(f"min ({pick(edge.DRIFT_ALPHA, DEVICE_CLASS)})", "bound", limit=True),
            size=(12, 8),
            alerts=("SluiceDrift",),
        ),
        states(
            "State of the drift loop",
            "inside: the bound holds; drifted: a worker's damage is above it, and answers carry no guarantee; unbounded: "
            "no calibration.",
            Query(state, "{{device_class}}"),
            names={"0": ("unbounded", GREY), "1": ("inside", GREEN), "2": ("drifted", RED)},
            size=(8, 8),
            alerts=("SluiceDrift",),
        ),
        tile(
            "Drift alarms",
            "Times that the measured damage left its bound, over the time shown.",
            "none",
            Query(total(increase(edge.DRIFT_ALARMS, DEVICE_CLASS, window="$__range")), "alarms"),
            steps=((0.5, RED),),
            size=(4, 8),
            alerts=("SluiceDrift",),
        ),
    ]
