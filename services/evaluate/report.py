"""The evaluation for people: tables on the terminal, a Markdown page with its plots and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from services.evaluate import compared
from services.evaluate.bootstrap import Figure
from services.evaluate.crossover import Crossover
from services.evaluate.curves import Comparison
from services.evaluate.methods import EXPLAINED
from services.evaluate.run import Outcome
from services.evaluate.summary import MODELLED, SOURCES, Figures

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
PLOTS = ("quality-upload.png", "energy-quality.png")


@dataclass(frozen=True)
class Report:
    """A run and what was computed from its answers."""

    outcome: Outcome
    comparisons: Sequence[Comparison]
    crossover: Crossover | None = None

    def to_json(self) -> dict[str, Any]:
        """One object, see ``docs/evaluation.md``."""
        found = self.outcome.summary() | {"comparisons": compared.to_json(self.comparisons)}
        return found if self.crossover is None else found | {"crossover": self.crossover.to_json()}


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


def write(report: Report, path: Path) -> None:
    """The page at ``path``; in the same folder and named after it, its plots and its JSON. Raises ``OSError``."""
    from services.evaluate import plots

    names = [f"{path.stem}-{name}" for name in PLOTS]
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, draw in zip(names, (plots.quality_upload, plots.energy_quality), strict=True):
        draw(report.outcome.figures).savefig(path.with_name(name), format="png", dpi=120)
    path.with_suffix(".json").write_text(json.dumps(report.to_json(), indent=1) + "\n")
    path.write_text(page(report, names))


def page(report: Report, plots: Sequence[str]) -> str:
    """Markdown. Measured and modelled figures stand in tables of their own."""
    outcome = report.outcome
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
        compared.page(report.comparisons),
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
    return "\n\n".join(filter(None, parts)) + "\n"


def _about(outcome: Outcome) -> str:
    plan = outcome.plan
    pair = " -> ".join(str(outcome.subject[role]["reference"]) for role in ("draft", "target"))
    marked = sum(t.markable for t in plan.tasks)
    return (
        f"{pair}, {len(plan.tasks)} prompts ({marked} with one right answer), at most {plan.asked.max_tokens} tokens, "
        f"temperature {plan.asked.sampling.temperature:g}"
    )


def _markdown(methods: Mapping[str, Figures], keys: Sequence[str]) -> str:
    """One row a method: a run may hold whole curves of them."""
    lines = ["| | " + " | ".join(key.replace("_", " ") for key in keys) + " |", "|---|" + "---|" * len(keys)]
    lines += [
        f"| `{name}` | " + " | ".join(compared.long(figures[key]) for key in keys) + " |" for name, figures in methods.items()
    ]
    return "\n".join(lines)


def _short(figure: Figure) -> str:
    return "-" if figure.value is None else f"{figure.value:.3g}"
