"""The calibration as one HTML page that needs nothing else: tables, and plots as PNG inside of it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from services.calibrate.predictor_fit import scores
from services.calibrate.risk_control import largest_risk
from services.calibrate.run import Outcome
from services.common.calibration.predictor import NAME, damage_at
from services.common.rng import Floats

BINS = 20
TOKENS_OF_A_BIN = 15
SHARES = np.linspace(0.05, 1.0, 39)
INK, SECOND, FAINT = "#1b4965", "#ca6702", "#9aa5b1"
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .8rem;border-bottom:1px solid #ddd;text-align:right}"
    "td:first-child,th:first-child{text-align:left}img{max-width:100%}figcaption{color:#555}"
)


def page(outcome: Outcome) -> str:
    """The whole page."""
    c = outcome.calibration
    promise = (
        f"The expected damage of an answer is at most alpha for prompts exchangeable with these ({c.method})."
        if c.guaranteed
        else "Too few calibration prompts for a guarantee: the thresholds are an estimate and promise nothing."
    )
    about = [
        ("draft", f"{c.draft.reference} ({c.draft.revision}, {c.draft.weights})"),
        ("target", f"{c.target.reference} ({c.target.revision}, {c.target.weights})"),
        ("sampling", f"temperature {c.sampling.temperature:g}, top-p {c.sampling.top_p:g}, top-k {c.sampling.top_k}"),
        ("prompts", ", ".join(f"{name} {count}" for name, count in c.prompts.items()) + f" (seed {c.seed})"),
        (
            "lengths",
            f"prompts of {c.prompt_tokens.low} to {c.prompt_tokens.high} tokens, answers of at most {c.max_tokens.high}",
        ),
        ("made", c.created.isoformat(timespec="seconds")),
    ]
    parts = [
        "<h1>Calibration</h1>",
        f"<p>{html.escape(promise)}</p>",
        _table(["", ""], about),
        "<h2>Thresholds</h2>",
        _thresholds(outcome),
        _level_text(outcome),
        "<h2>Uncertainty against rejection</h2>",
        _line_text(outcome),
        _figure(_rejection_plot(outcome), "Mean rejection probability of the fit tokens by uncertainty, and the fitted line."),
        "<h2>Risk against coverage</h2>",
        _figure(_coverage_plot(outcome), "Held-out tokens: damage if the surest share of them is skipped, by score."),
        _comparison(outcome),
        _figure(_policy_plot(outcome), "The policy's own answers: damage and share skipped at each threshold of the grid."),
        "<h2>Scores</h2>",
        _figure(_histogram(outcome), "Histogram of the gate's score over the fit tokens, with the chosen thresholds."),
    ]
    body = "\n".join(parts)
    head = f'<meta charset="utf-8"><title>Calibration</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en">{head}\n{body}\n</html>\n'


def _thresholds(outcome: Outcome) -> str:
    n = len(outcome.losses)
    rows = [
        (
            f"{t.alpha:g}",
            _number(largest_risk(n, t.alpha)),
            _tau(t.conformal),
            _tau(t.learn_then_test),
            *map(_number, (t.evaluated_damage, t.evaluated_skip_rate, t.evaluated_local_rate)),
        )
        for t in outcome.calibration.thresholds
    ]
    header = [
        "alpha",
        "mean may be",
        "conformal",
        "learn then test",
        "damage of fresh answers",
        "skipped",
        "answers that asked nothing",
    ]
    return _table(header, rows)


def _level_text(outcome: Outcome) -> str:
    level = outcome.level
    if level is None:
        return ""
    return (
        f"<p>Whole answers are kept local where the damage predicted from their first {level.rule.decide_tokens} tokens is at "
        f"most {level.multiple:g} times what the ordinary rule does at the threshold; they ask again above "
        f"{level.rule.turn:.2f} times that. Prediction and damage of {level.answers} local answers: Pearson r "
        f"{_number(level.r)}.</p>"
    )


def _line_text(outcome: Outcome) -> str:
    line = outcome.line
    return (
        f"<p>rejection = {line.a:.3f} u {line.b:+.3f}, Pearson r {line.r:.3f} over {line.tokens} tokens. The papers' "
        f"thresholds: risk-averse {_number(line.risk_averse)}, risk-prone {_number(line.risk_prone)} "
        f"(Delta {line.disagreement:.3f}).</p>"
    )


def _comparison(outcome: Outcome) -> str:
    shares = list(next(iter(outcome.comparison.values())))
    rows = [(name, *(f"{damage[share]:.4f}" for share in shares)) for name, damage in sorted(outcome.comparison.items())]
    return _table(["damage at share skipped", *shares], rows)


def _policy_score(outcome: Outcome) -> Floats:
    return scores(outcome.fitted, outcome.calibration.predictor)[outcome.calibration.policy.signal]


def _rejection_plot(outcome: Outcome) -> Figure:
    figure, axes = _axes(outcome.calibration.policy.signal, "rejection probability")
    u, beta = _policy_score(outcome), outcome.fitted.audit
    bins = int(np.clip(len(u) // TOKENS_OF_A_BIN, 2, BINS))
    edges = np.unique(np.quantile(u, np.linspace(0.0, 1.0, bins + 1)))
    which = np.clip(np.searchsorted(edges, u, side="right") - 1, 0, max(0, len(edges) - 2))
    filled = np.unique(which)
    axes.scatter(u, beta, s=8, color=FAINT, alpha=0.5, linewidths=0, label="token")
    axes.plot([u[which == b].mean() for b in filled], [beta[which == b].mean() for b in filled], "o-", color=INK, label="mean")
    ends = np.array([u.min(), u.max()])
    axes.plot(ends, outcome.line.a * ends + outcome.line.b, color=SECOND, label="fitted line")
    axes.legend()
    return figure


def _coverage_plot(outcome: Outcome) -> Figure:
    figure, axes = _axes("share of tokens skipped", "damage per token")
    held = outcome.held_out
    for name, score in sorted(scores(held, outcome.calibration.predictor).items()):
        curve = [damage_at(score, held.audit, float(s)) for s in SHARES]
        axes.plot(SHARES, curve, label=name, linewidth=2.5 if name == NAME else 1.2)
    axes.plot(SHARES, [damage_at(held.audit, held.audit, float(s)) for s in SHARES], ":", color=FAINT, label="oracle")
    axes.legend()
    return figure


def _policy_plot(outcome: Outcome) -> Figure:
    figure, axes = _axes("share of answered tokens skipped", "damage per answer")
    axes.plot(outcome.skip_rates, outcome.losses.mean(axis=0), "o-", color=INK, label="mean")
    monotone = np.maximum.accumulate(outcome.losses, axis=1).mean(axis=0)
    axes.plot(outcome.skip_rates, monotone, "o--", color=SECOND, label="mean of the running maximum")
    axes.plot(outcome.skip_rates, outcome.bounds, ":", color=FAINT, label="the papers' bound, from the line")
    axes.legend()
    return figure


def _histogram(outcome: Outcome) -> Figure:
    figure, axes = _axes(outcome.calibration.policy.signal, "tokens")
    axes.hist(_policy_score(outcome), bins=2 * BINS, color=INK)
    for alpha in (t.alpha for t in outcome.calibration.thresholds):
        tau = outcome.calibration.tau(alpha)
        if tau is not None:
            axes.axvline(tau, color=SECOND, linestyle="--")
            axes.annotate(f"alpha {alpha:g}", (tau, 0.95), xycoords=("data", "axes fraction"), rotation=90, va="top")
    return figure


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return figure, axes


def _figure(figure: Figure, caption: str) -> str:
    data = io.BytesIO()
    figure.savefig(data, format="png")
    image = base64.b64encode(data.getvalue()).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{image}"><figcaption>{text}</figcaption></figure>'


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(h)}</th>" for h in header)
    lines = ("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _tau(value: float | None) -> str:
    return "ask always" if value is None else f"{value:.4f}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
