"""Plots of an evaluation: one line a family of methods, a mark where a family has one point. Imports matplotlib."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Plot

from services.evaluate.curves import families
from services.evaluate.summary import Figures

# Okabe and Ito's colours without the yellow, which is too light for a line: they can be told apart without seeing red or green.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "osD^vP*Xph"
LINES = ("-", "--", ":")
QUALITIES = ("exact_match_relative_to_llm", "cosine", "bertscore")  # the first that there is goes into the plots
UPLOAD_AXIS = "upload rate (candidates judged per answered token)"


def quality_upload(figures: Mapping[str, Figures]) -> Plot:
    """Quality, where it was measured, and damage against the upload rate."""
    shown = dict.fromkeys((_quality(figures), "damage"))
    plot = Plot(figsize=(3.0 + 4.6 * len(shown), 4.8), layout="constrained")
    panels = plot.subplots(1, len(shown), squeeze=False)[0]
    for axes, y in zip(panels, shown, strict=True):
        _lines(axes, figures, "upload_rate", y)
        axes.set_xlabel(UPLOAD_AXIS)
    _legend(plot, panels[0])
    return plot


def energy_quality(figures: Mapping[str, Figures]) -> Plot:
    """Modelled energy and measured quality, an axis each."""
    plot = Plot(figsize=(8.5, 5.2), layout="constrained")
    axes = plot.add_subplot()
    _lines(axes, figures, "energy_joules_per_token", _quality(figures))
    axes.set_xlabel("energy (modelled), joules per token")
    _legend(plot, axes)
    return plot


def style(number: int) -> dict[str, str]:
    """Of the line with this number; colours come again with other lines and marks."""
    again = number // len(COLOURS)
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": LINES[again % len(LINES)],
    }


def _quality(figures: Mapping[str, Figures]) -> str:
    return next((q for q in QUALITIES if figures["llm"][q].value is not None), "damage")


def _lines(axes: Axes, figures: Mapping[str, Figures], x: str, y: str) -> None:
    curves_first = sorted(families(list(figures)).items(), key=lambda family: len(family[1]) == 1)  # they get unlike colours
    for number, (family, names) in enumerate(curves_first):
        points = sorted(
            (here.value, there.value, there.low, there.high)
            for here, there in ((figures[n][x], figures[n][y]) for n in names)
            if here.value is not None and there.value is not None and there.low is not None and there.high is not None
        )
        if not points:
            continue
        across, up = [p[0] for p in points], [p[1] for p in points]
        spread = [[max(0.0, p[1] - p[2]) for p in points], [max(0.0, p[3] - p[1]) for p in points]]
        look = style(number)
        axes.errorbar(across, up, yerr=spread, fmt="none", ecolor=look["color"], alpha=0.3, elinewidth=1.0)
        axes.plot(across, up, label=family, markersize=5.0, linewidth=1.5, **look)  # type: ignore[arg-type]
    axes.set_ylabel(y.replace("_", " "))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(plot: Plot, axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    plot.legend(handles, names, loc="outside right center", frameon=False, fontsize="small")
