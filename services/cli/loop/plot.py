"""The picture of a run. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from services.cli.loop.plan import Fleet, Times
from services.cli.loop.series import Series
from services.cli.loop.verdict import Span, Turn, changes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = {
    "control": ("o", "tab:green", "controlled"),
    "hold": ("s", "tab:orange", "held: no inputs"),
    "safe": ("D", "tab:red", "safe setting"),
    "override": ("*", "tab:purple", "set by hand"),
}
BLUE, GREY, RED = "tab:blue", "0.45", "tab:red"


@dataclass(frozen=True)
class Run:
    """What is left of one run. ``decisions``: the policy's log, whole; ``load``: the load's report; ``away``: seconds without
    Prometheus."""

    fleet: Fleet
    times: Times
    series: Series
    turns: Sequence[Turn]
    decisions: Sequence[dict[str, Any]]
    load: dict[str, Any]
    away: Span | None


def save(run: Run, path: Path, title: str) -> None:
    """Load, knobs with the decisions that changed them, and what they hold down. Raises ``OSError``."""
    import matplotlib as mpl

    fleet, times, series = run.fleet, run.times, run.series
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        6, 1, figsize=(10, 13), sharex=True, constrained_layout=True, height_ratios=[1.1, 1.2, 0.8, 1.2, 1.0, 1.0]
    )
    figure.suptitle(title, fontsize="medium")
    _load(axes[0], run.load, times)
    _knobs(axes[1], axes[2], run.turns, times)
    _against(axes[3], series.at, series.utilisation, fleet.utilisation, f"utilisation ({times.window:g} s mean)", "budget")
    axes[3].set_ylim(0.0, 1.05)
    _against(axes[4], series.at, series.damage, fleet.damage, f"damage per token ({times.window:g} s mean)", "limit")
    axes[4].set_ylim(0.0, max(1.6 * fleet.damage, 1.1 * _top(series.damage[series.at >= times.window])))
    axes[5].plot(series.at, series.round_trip_p95, color=BLUE, label="round trip p95 (s)")
    axes[5].plot(series.at, series.upload_rate, color="tab:purple", label="upload rate (of answered tokens)")
    axes[5].plot(series.at, series.unverified, color=RED, linewidth=1.0, label="unverified (of answered tokens)")
    axes[5].set_ylim(0.0, 1.4 * max(1.0, _top(series.round_trip_p95)))
    for number, axis in enumerate(axes):
        _parts(axis, run, named=number == 0)
        axis.grid(alpha=0.25)
        axis.legend(loc="upper right", fontsize="x-small", framealpha=0.9, ncols=3)
    axes[-1].set_xlim(0.0, times.end)
    axes[-1].set_xlabel("seconds of load")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _top(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.max()) if len(known) else 0.0


def _load(axis: Axes, load: dict[str, Any], times: Times) -> None:
    """What was offered, and how many answers were being written."""
    phases = load["phases"]
    edges = [phase["from"] for phase in phases] + [times.end]
    axis.stairs([phase["rate"] for phase in phases], edges, color=GREY, linewidth=1.5, label="offered, answers/s")
    line = load["timeline"]
    width = max(1, round(times.window / line["bin_seconds"]))
    due = np.convolve(line["due"], np.ones(width) / (width * line["bin_seconds"]), mode="full")[: len(line["due"])]
    axis.plot(np.arange(len(due)) + line["bin_seconds"], due, color=GREY, linewidth=0.7, linestyle=":", label="as they came")
    axis.set_ylim(bottom=0.0, top=1.45 * max(phase["rate"] for phase in phases))
    other = axis.twinx()
    running = np.asarray(line["running"], dtype=float)
    other.plot(np.arange(len(running)) * line["bin_seconds"], running, color=BLUE, linewidth=1.0)
    axis.plot([], [], color=BLUE, linewidth=1.0, label="answers being written (right)")
    other.set_ylim(bottom=0.0, top=1.45 * max(1.0, running.max(initial=1.0)))


def _knobs(top: Axes, below: Axes, turns: Sequence[Turn], times: Times) -> None:
    """Each knob as a step line, a mark at each decision that changed something."""
    moved = changes(turns)
    at = [turn.at for turn in moved] + [times.end]
    for axis, name in ((top, "gamma"), (below, "k")):
        values = [float(getattr(turn, name)) for turn in moved]
        if not values:
            continue
        axis.step(at, [*values, values[-1]], where="post", color="black", linewidth=1.2, label=name)
        for source, (marker, colour, meaning) in MARKS.items():
            mine = [(turn.at, float(getattr(turn, name))) for turn in moved if turn.source == source]
            if mine:
                x, y = zip(*mine, strict=True)
                axis.scatter(x, y, marker=marker, s=22, color=colour, zorder=3, label=meaning if axis is top else None)
        axis.set_ylim(bottom=0.0, top=1.35 * max(*values, 0.5))


def _against(axis: Axes, at: np.ndarray, values: np.ndarray, limit: float, name: str, what: str) -> None:
    axis.plot(at, values, color=BLUE, label=name)
    axis.axhline(limit, color="black", linestyle="--", linewidth=0.9, label=f"{what} {limit:g}")
    over = np.where(np.isfinite(values), values, limit) > limit
    axis.fill_between(at, limit, values, where=over, interpolate=True, color=RED, alpha=0.35, linewidth=0.0)


def _parts(axis: Axes, run: Run, *, named: bool) -> None:
    """The step, and the time without Prometheus, shaded."""
    axis.axvspan(run.times.up_at, run.times.down_at, color="tab:blue", alpha=0.07, linewidth=0.0)
    spans = [(run.times.up_at, "load x5")]
    if run.away is not None:
        axis.axvspan(*run.away, color="0.5", alpha=0.18, linewidth=0.0)
        spans.append((run.away[0], "no Prometheus"))
    for at, text in spans if named else ():
        axis.annotate(text, (at, 1.0), (1, 3), xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=8)
