"""The evaluation for people: a table on the terminal, a Markdown page with two plots beside it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from services.evaluate.bootstrap import Figure
from services.evaluate.methods import EXPLAINED
from services.evaluate.run import Outcome
from services.evaluate.summary import MODELLED, SOURCES, Figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Plot

SEEN = {
    "upload_rate": "upload",
    "damage": "damage",
    "exact_match": "exact",
    "cosine": "cosine",
    "bertscore": "BERT",
    "llm_passes_per_token": "passes",
    "llm_tokens_per_token": "fed",
    "uplink_bytes_per_token": "bytes up",
    "tokens_per_second": "tokens/s",
}
THOUGHT = {
    "modelled_tokens_per_second": "tokens/s",
    "modelled_seconds_per_answer": "s/answer",
    "energy_joules_per_token": "J/token",
    "energy_relative_to_llm": "energy/llm",
    "energy_relative_to_hlm": "energy/hlm",
    "modelled_unverified_share": "unverified",
}
MARKERS = "osD^v<>ph*Xd"
QUALITIES = ("exact_match", "cosine", "bertscore")  # the first that there is goes into the plots
PLOTS = {
    "quality-upload.png": ("upload_rate", "upload rate (candidates judged per answered token)"),
    "energy-quality.png": ("energy_joules_per_token", "joules per token (modelled)"),
}


def tables(outcome: Outcome) -> list[Table]:
    """What was counted and measured, and what was modelled. Values only; intervals are in the report and the JSON."""
    world = outcome.plan.world
    where = f"Modelled: link {world.link.name}, device {world.device.name}, server {world.server.name}"
    return [_table(outcome, _about(outcome), SEEN), _table(outcome, where, THOUGHT)]


def _table(outcome: Outcome, title: str, headings: dict[str, str]) -> Table:
    made = Table(title=title, title_justify="left", title_style="", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    made.add_column("method", no_wrap=True)
    for heading in headings.values():
        made.add_column(heading, justify="right")
    for name, figures in outcome.figures.items():
        made.add_row(name, *(_short(figures[key]) for key in headings))
    return made


def write(outcome: Outcome, path: Path) -> None:
    """The page at ``path`` and its plots in the same folder, named after it. Raises ``OSError``."""
    names = {name: f"{path.stem}-{name}" for name in PLOTS}
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, (key, label) in PLOTS.items():
        _plot(outcome, key, label).savefig(path.with_name(names[name]), format="png", dpi=120)
    path.write_text(page(outcome, list(names.values())))


def page(outcome: Outcome, plots: Sequence[str]) -> str:
    """Markdown. Measured and modelled figures stand in tables of their own."""
    modelled = [key for key, source in SOURCES.items() if source == MODELLED]
    others = [key for key in SOURCES if key not in modelled]
    world = outcome.plan.world
    parts = [
        "# Evaluation",
        f"{_about(outcome)}, seed {outcome.plan.asked.seed}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. Each cell: value and 95 % "
        "interval (paired bootstrap over prompts). What the columns mean: `docs/evaluation.md`.",
        "## Counted and measured",
        "In one process, without a network.",
        _markdown(outcome.figures, others),
        "## Modelled",
        f"The same answers on link `{world.link.name}`, device `{world.device.name}`, server `{world.server.name}`; methods "
        f"that may go on unverified wait {world.deadline_seconds:g} s for a verdict.",
        _markdown(outcome.figures, modelled),
        "## Plots",
        *(f"![{plot.removesuffix('.png')}]({plot})" for plot in plots),
        "## Methods",
        "\n".join(f"* `{m.label}`: {EXPLAINED[m.name]}" for m in outcome.plan.methods),
    ]
    if outcome.rand_rate is not None:
        parts.append(f"rand-hlm judged a share of {outcome.rand_rate:.4f} of the drafted tokens, as u-hlm did.")
    reasons = sorted({f.reason for figures in outcome.figures.values() for f in figures.values() if f.reason})
    if reasons:
        parts.append("Empty cells: " + "; ".join(reasons) + ".")
    return "\n\n".join(parts) + "\n"


def _about(outcome: Outcome) -> str:
    plan = outcome.plan
    pair = " -> ".join(str(outcome.subject[role]["reference"]) for role in ("draft", "target"))
    marked = sum(t.markable for t in plan.tasks)
    return (
        f"{pair}, {len(plan.tasks)} prompts ({marked} with one right answer), at most {plan.asked.max_tokens} tokens, "
        f"temperature {plan.asked.sampling.temperature:g}"
    )


def _markdown(methods: dict[str, Figures], keys: Sequence[str]) -> str:
    """One row a figure, one column a method: there are more figures than methods."""
    lines = ["| | " + " | ".join(methods) + " |", "|---|" + "---|" * len(methods)]
    for key in keys:
        cells = (_long(figures[key]) for figures in methods.values())
        lines.append(f"| {key.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _short(figure: Figure) -> str:
    return "-" if figure.value is None else f"{figure.value:.3g}"


def _long(figure: Figure) -> str:
    if figure.value is None:
        return ""
    return f"{figure.value:.3g} ({figure.low:.3g} to {figure.high:.3g})"


def _plot(outcome: Outcome, key: str, label: str) -> Plot:
    from matplotlib.figure import Figure as Plot

    plot = Plot(figsize=(7.0, 4.5), layout="constrained")
    axes = plot.add_subplot()
    quality = next((q for q in QUALITIES if outcome.figures["llm"][q].value is not None), "damage")
    for number, (name, figures) in enumerate(outcome.figures.items()):
        x, y = figures[key], figures[quality]
        if x.value is None or y.value is None or y.low is None or y.high is None:
            continue
        spread = [[max(0.0, y.value - y.low)], [max(0.0, y.high - y.value)]]
        axes.errorbar(x.value, y.value, yerr=spread, fmt=MARKERS[number % len(MARKERS)], capsize=3, label=name)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_xlabel(label)
    axes.set_ylabel(quality.replace("_", " "))
    axes.grid(alpha=0.3)
    return plot
