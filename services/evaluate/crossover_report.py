"""The crossover for people: four panels, and a Markdown page with the numbers. Imports matplotlib where it draws."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from services.evaluate import labels
from services.evaluate.crossover import REMOTE, Cell, Crossover, Entry, Sweep, crossings
from services.evaluate.methods import ALONE
from services.evaluate.modelled import World
from services.evaluate.run import Outcome, rule_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Plot

LEFT_OUT = ("llm", "slm", "rand-hlm", "i-hlm")  # no link, no questions, and baselines of quality
HOLLOW = 0.02  # unverified tokens, as a share: the mark is hollow above


def entries(outcome: Outcome, at_rate: float) -> list[Entry]:
    """One for each name of a method: of several points of its curves, that with the upload rate nearest to ``at_rate``."""
    nearest: dict[str, tuple[float, str]] = {}
    for label, figures in outcome.figures.items():
        name, rate = labels.read(label).name, figures["upload_rate"].value
        if name not in LEFT_OUT and rate is not None:
            nearest[name] = min(nearest.get(name, (2.0, "")), (abs(rate - at_rate), label))
    chosen = {label for _, label in nearest.values()}
    found = []
    for method in outcome.plan.methods:
        if method.label in chosen:
            patient = method.name in ALONE or rule_of(method, outcome.plan, 0.0).patient
            damage = outcome.figures[method.label]["damage"].value or 0.0
            found.append(Entry(method.label, [row.record for row in outcome.rows[method.label]], patient, damage))
    return found


def write(found: Crossover, world: World, path: Path) -> None:
    """The figure at ``path`` (PNG), the page and the JSON beside it. Raises ``OSError``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure(found).savefig(path, format="png", dpi=120)
    path.with_suffix(".json").write_text(json.dumps(found.to_json(), indent=1) + "\n")
    path.with_suffix(".md").write_text(page(found, world, path.name))


def figure(found: Crossover) -> Plot:
    """Tokens per second, a panel for each sweep."""
    from matplotlib.figure import Figure as Plot

    plot = Plot(figsize=(11.0, 8.0), layout="constrained")
    for axes, sweep in zip(plot.subplots(2, 2).flat, found.sweeps, strict=True):
        _panel(axes, sweep, found)
        axes.set_xlabel(f"{sweep.name} ({sweep.unit})")
        axes.set_ylabel("tokens/s (modelled)")
    handles, names = axes.get_legend_handles_labels()
    plot.legend(handles, names, loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    plot.suptitle(
        f"One condition at a time. Hollow marks: more than {HOLLOW:.0%} of the tokens unverified. Dotted: as in the run"
    )
    return plot


def _panel(axes: Axes, sweep: Sweep, found: Crossover) -> None:
    from services.evaluate.plots import style

    for number, (label, cells) in enumerate(sweep.cells.items()):
        points = [(x, cell) for x, cell in zip(sweep.values, cells, strict=True) if cell is not None]
        look = style(number)
        marker, x = look.pop("marker"), [value for value, _ in points]
        axes.plot(x, [cell.tokens_per_second for _, cell in points], linewidth=1.5, **look)  # type: ignore[arg-type]
        for verified in (True, False):
            some = [(value, cell.tokens_per_second) for value, cell in points if (cell.unverified <= HOLLOW) is verified]
            axes.plot(
                [value for value, _ in some],
                [speed for _, speed in some],
                linestyle="",
                marker=marker,
                markersize=5.0,
                color=look["color"],
                markerfacecolor=look["color"] if verified else "white",
                label=f"{label} (damage {found.damage[label]:.3f})" if verified else None,
            )
    if sweep.logarithmic:
        axes.set_xscale("log")
    if sweep.here is not None:
        axes.axvline(sweep.here, color="grey", linestyle=":", linewidth=1.0)
    axes.set_ylim(bottom=0.0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def page(found: Crossover, world: World, plot: str) -> str:
    """Markdown; every figure of it is modelled."""
    link, device, server = world.link.name, world.device.name, world.server.name
    parts = [
        "# Where which method wins",
        f"Everything here is modelled: recorded answers on link `{link}`, device `{device}`, server `{server}`, one condition "
        "changed at a time. What the models are: `docs/evaluation.md`.",
        f"![crossover]({plot})",
        "## Capacity of one server",
        _capacity(found),
    ]
    for sweep in found.sweeps:
        parts += [f"## By {sweep.name}", _passes(sweep), _table(sweep)]
    return "\n\n".join(parts) + "\n"


def _capacity(found: Crossover) -> str:
    lines = ["| | answers/s until it is saturated | damage of the answers |", "|---|---|---|"]
    for label, most in found.capacity.items():
        until = f"{most:.3g}" if math.isfinite(most) else "never"
        lines.append(f"| `{label}` | {until} | {found.damage[label]:.3g} |")
    return "\n".join(lines)


def _passes(sweep: Sweep) -> str:
    """In words, where lines cross that of the large model over the link."""
    if REMOTE not in sweep.cells:
        return f"`{REMOTE}` was not run."
    said = []
    for label, places in crossings(sweep).items():
        for place in places:
            first = place["faster_above"]
            second = REMOTE if first == label else label
            said.append(
                f"* above {place['at']:.3g} {sweep.unit} `{first}` is faster than `{second}`, below the other way round"
            )
        if not places:
            said.append(f"* {_throughout(label, sweep)}")
    return "\n".join(said)


def _throughout(label: str, sweep: Sweep) -> str:
    pairs = [(a, b) for a, b in zip(sweep.cells[label], sweep.cells[REMOTE], strict=True) if a is not None and b is not None]
    ahead = all(a.tokens_per_second > b.tokens_per_second for a, b in pairs)
    first, second = (label, REMOTE) if ahead else (REMOTE, label)
    return f"`{first}` is faster than `{second}` throughout"


def _table(sweep: Sweep) -> str:
    heads = [f"`{label}`" for label in sweep.cells]
    lines = [
        "Tokens/s; seconds per answer (95th percentile); joules per token; unverified share of the tokens.",
        "",
        f"| {sweep.name} ({sweep.unit}) | " + " | ".join(heads) + " |",
        "|---|" + "---|" * len(heads),
    ]
    for row, value in enumerate(sweep.values):
        lines.append(f"| {value:.3g} | " + " | ".join(_cell(cells[row]) for cells in sweep.cells.values()) + " |")
    return "\n".join(lines)


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "saturated"
    seconds = f"{cell.seconds_per_answer:.3g} ({cell.slow_seconds:.3g})"
    return f"{cell.tokens_per_second:.3g}; {seconds}; {cell.joules_per_token:.3g}; {cell.unverified:.2f}"
