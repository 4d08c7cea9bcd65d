"""Dashboards drawn as Grafana lays them out, with what a Prometheus answers: to look at, where there is no Grafana."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.dashboards.files import filled
from tests.dashboards.site import Prometheus

_COLUMN_INCHES, _ROW_INCHES = 0.78, 0.36
_PALETTE = ("#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#1f78c1", "#ba43a9", "#705da0", "#508642", "#cca300", "#447ebc")
_COLOURS = {"green": "#73bf69", "light-green": "#b7e3a1", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2"}
_COLOURS |= {"purple": "#b877d9", "transparent": "#cccccc"}


@dataclass(frozen=True)
class Shot:
    """``begin``, ``end``: seconds since 1970."""

    prometheus: Prometheus
    begin: float
    end: float

    @property
    def step(self) -> float:
        return max(1.0, (self.end - self.begin) / 200)

    def answers(self, panel: dict[str, Any]) -> list[tuple[str, list[float], list[float]]]:
        """Name, times and values of each series."""
        found = []
        for target in panel["targets"]:
            expr = filled(target["expr"], window="20s", whole=f"{self.end - self.begin:.0f}s")
            if target.get("instant"):
                series = [one | {"values": [one["value"]]} for one in self.prometheus.now(expr)]
            else:
                series = self.prometheus.course(expr, self.begin, self.end, self.step)
            for one in series:
                points = [(float(t), float(v)) for t, v in one["values"]]
                times, values = [t for t, _ in points], [v for _, v in points]
                found.append((_named(target["legendFormat"], one["metric"]), times, values))
        return found


def draw(dashboard: dict[str, Any], shot: Shot, path: Path) -> None:
    rows = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in dashboard["panels"])
    width, height = 24 * _COLUMN_INCHES, rows * _ROW_INCHES
    figure = Figure(figsize=(width, height + 0.5), dpi=70, facecolor="#f4f5f5")
    figure.text(0.005, 1 - 0.3 / (height + 0.5), dashboard["title"], fontsize=15, weight="bold")
    scale = height / (height + 0.5)
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        left, top = at["x"] / 24, 1 - at["y"] / rows
        if panel["type"] == "row":
            figure.text(left + 0.005, (top - 0.75 / rows) * scale, f"▾ {panel['title']}", fontsize=11, weight="bold")
            continue
        box = (left + 0.002, (top - at["h"] / rows + 0.15 / rows) * scale, at["w"] / 24 - 0.004, (at["h"] - 0.3) / rows * scale)
        frame = figure.add_axes(box, facecolor="white")
        frame.set_xticks([])
        frame.set_yticks([])
        for spine in frame.spines.values():
            spine.set_color("#d8d9da")
        frame.text(0.5, 1 - 0.12 / at["h"], panel["title"], fontsize=9, ha="center", va="top", transform=frame.transAxes)
        _DRAWN[panel["type"]](frame, panel, shot.answers(panel))
    figure.savefig(path)


def _named(legend: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        legend = legend.replace(f"{{{{{name}}}}}", value)
    return legend


def _inner(frame: Axes, panel: dict[str, Any], legend: bool) -> Axes:
    """The plot's own axes, with room for title, ticks and legend."""
    tall, wide = panel["gridPos"]["h"], panel["gridPos"]["w"]
    bottom = (1.6 if legend else 0.9) / tall
    return frame.inset_axes((0.9 / wide, bottom, 1 - 1.2 / wide, 1 - bottom - 1.1 / tall))


def _lines(frame: Axes, panel: dict[str, Any], answers: list[tuple[str, list[float], list[float]]]) -> None:
    axes = _inner(frame, panel, legend=True)
    defaults = panel["fieldConfig"]["defaults"]
    stacked = defaults["custom"].get("stacking", {}).get("mode") == "normal"
    colours, dashed = _overrides(panel)
    below: dict[float, float] = {}
    for number, (name, times, values) in enumerate(answers):
        colour = colours.get(name, _PALETTE[number % len(_PALETTE)])
        if stacked and name not in dashed:
            base = [below.get(t, 0.0) for t in times]
            upper = [b + (0.0 if math.isnan(v) else v) for b, v in zip(base, values, strict=True)]
            below |= dict(zip(times, upper, strict=True))
            axes.fill_between(times, base, upper, color=colour, alpha=0.5, linewidth=0.8, label=name)
        else:
            axes.plot(times, values, color=colour, linewidth=1.4, linestyle="--" if name in dashed else "-", label=name)
    for step in defaults.get("thresholds", {}).get("steps", [])[1:]:
        axes.axhline(step["value"], color=_colour(step["color"]), linestyle="--", linewidth=1)
    axes.set_ylim(bottom=0, top=defaults.get("max"))
    _clock(axes)
    axes.yaxis.set_major_formatter(lambda value, _: said(value, defaults["unit"]))
    axes.locator_params(nbins=5)
    axes.tick_params(labelsize=7)
    axes.grid(color="#eeeeee")
    if answers:
        columns = max(1, panel["gridPos"]["w"] // 2)
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.9 / panel["gridPos"]["h"]), ncol=columns, fontsize=6.5, frameon=False
        )
    else:
        _nothing(frame, panel)


def _clock(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(lambda value, _: time.strftime("%H:%M:%S", time.gmtime(value)))
    axes.tick_params(labelsize=7)


def _tile(frame: Axes, panel: dict[str, Any], answers: list[tuple[str, list[float], list[float]]]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    last = next((v for _, _, values in answers for v in reversed(values) if math.isfinite(v)), None)
    if last is None:
        nothing = defaults["mappings"][0]["options"]["result"]
        frame.text(0.5, 0.42, nothing["text"], fontsize=14, ha="center", va="center", transform=frame.transAxes)
        if panel["options"]["colorMode"] == "background":
            frame.set_facecolor(_colour(nothing["color"]))
        return
    if panel["options"]["colorMode"] == "background":
        frame.set_facecolor(_colour(_reached(defaults["thresholds"]["steps"], last)))
    shown = said(round(last) if defaults.get("decimals") == 0 else last, defaults["unit"])
    frame.text(0.5, 0.42, shown, fontsize=20, ha="center", va="center", transform=frame.transAxes)


def _bands(frame: Axes, panel: dict[str, Any], answers: list[tuple[str, list[float], list[float]]]) -> None:
    if not answers:
        _nothing(frame, panel)
        return
    axes = frame.inset_axes((0.3, 0.12, 0.68, 0.72))
    results = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    for row, (_, times, values) in enumerate(answers):
        step = min((b - a for a, b in itertools.pairwise(times)), default=1.0)
        for t, value in zip(times, values, strict=True):
            axes.barh(row, step * 1.05, left=t, color=_colour(results[f"{value:g}"]["color"]), height=0.8)
    axes.set_yticks(range(len(answers)), [name for name, _, _ in answers], fontsize=7)
    _clock(axes)


def _bars(frame: Axes, panel: dict[str, Any], answers: list[tuple[str, list[float], list[float]]]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    axes = frame.inset_axes((0.25, 0.08, 0.62, 0.78))
    for row, (name, _, values) in enumerate(reversed(answers)):
        last = next((v for v in reversed(values) if math.isfinite(v)), 0.0)
        axes.barh(row, min(last, defaults["max"]), color=_colour(_reached(defaults["thresholds"]["steps"], last)))
        axes.text(defaults["max"] * 1.02, row, said(last, defaults["unit"]), fontsize=8, va="center")
        axes.text(-0.02, row, name, fontsize=8, va="center", ha="right")
    axes.set_xlim(0, defaults["max"])
    axes.set_yticks([])
    axes.set_xticks([])


def _columns(frame: Axes, panel: dict[str, Any], answers: list[tuple[str, list[float], list[float]]]) -> None:
    axes = _inner(frame, panel, legend=False)
    found = sorted((name, values[-1]) for name, _, values in answers)
    axes.bar(range(len(found)), [value for _, value in found], color="#7eb26d")
    axes.set_xticks(range(len(found)), [name for name, _ in found])
    axes.tick_params(labelsize=6)
    axes.tick_params(axis="x", rotation=90)
    axes.yaxis.set_major_formatter(lambda value, _: said(value, panel["fieldConfig"]["defaults"]["unit"]))


def _heat(frame: Axes, panel: dict[str, Any], answers: list[tuple[str, list[float], list[float]]]) -> None:
    axes = _inner(frame, panel, legend=False)
    ordered = sorted(answers, key=lambda one: float(one[0].replace("+Inf", "inf")))
    grid = [values for _, _, values in ordered]
    shape = min(map(len, grid), default=0)
    below = [0.0] * shape
    cells = []
    for values in grid:
        cells.append([max(0.0, v - b) for v, b in zip(values[-shape:], below, strict=True)])
        below = values[-shape:]
    axes.imshow(cells, aspect="auto", origin="lower", cmap="Oranges")
    axes.set_yticks(range(len(ordered)), [name for name, _, _ in ordered], fontsize=6)
    axes.set_xticks([])


def _nothing(frame: Axes, panel: dict[str, Any]) -> None:
    said_ = panel["fieldConfig"]["defaults"].get("noValue", "No data")
    frame.text(0.5, 0.42, said_, fontsize=11, ha="center", color="#888888", transform=frame.transAxes)


def _overrides(panel: dict[str, Any]) -> tuple[dict[str, str], set[str]]:
    colours, dashed = {}, set()
    for override in panel["fieldConfig"]["overrides"]:
        for name in override["matcher"]["options"]["names"]:
            for change in override["properties"]:
                if change["id"] == "color":
                    colours[name] = _colour(change["value"]["fixedColor"])
                if change["id"] == "custom.lineStyle":
                    dashed.add(name)
    return colours, dashed


def _reached(steps: list[dict[str, Any]], value: float) -> str:
    return next(str(step["color"]) for step in reversed(steps) if step["value"] is None or value >= step["value"])


def _colour(name: str) -> str:
    return _COLOURS.get(name, name)


def said(value: float, unit: str) -> str:
    """``value`` about as Grafana writes it."""
    match unit:
        case "percentunit":
            return f"{100 * value:.3g} %"
        case "s":
            return f"{value:.3g} s" if value >= 1 or value == 0 else f"{1000 * value:.3g} ms"
        case "joule" | "watt":
            return f"{value:.3g} {unit[0].upper()}"
        case "bytes" | "Bps":
            return f"{value / 1024:.3g} KiB" + ("/s" if unit == "Bps" else "")
        case _:
            return f"{value:.4g}"


_DRAWN: dict[str, Callable[[Axes, dict[str, Any], Any], None]] = {
    "timeseries": _lines,
    "stat": _tile,
    "state-timeline": _bands,
    "bargauge": _bars,
    "barchart": _columns,
    "heatmap": _heat,
}
