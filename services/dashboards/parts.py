"""Panels: the few kinds that the dashboards use, each with everything that a reader needs. Pure."""

from __future__ import annotations

import string
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from grafana_foundation_sdk.builders import (
    barchart,
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    timeseries,
)
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
Builder = barchart.Panel | bargauge.Panel | heatmap.Panel | stat.Panel | statetimeline.Panel | timeseries.Panel
_Panel = TypeVar("_Panel", barchart.Panel, bargauge.Panel, heatmap.Panel, stat.Panel, statetimeline.Panel, timeseries.Panel)

GREEN, ORANGE, RED, BLUE, GREY = "green", "orange", "red", "blue", "#8e8e8e"
Steps = Sequence[tuple[float, str]]  # from this value on, this colour; below the first one: green
Names = Mapping[str, tuple[str, str]]
BROKEN: Steps = ((1, RED),)
RUNBOOK = "sluice-runbook"  # uid
KEPT = "${datasource:queryparam}&${namespace:queryparam}&${__url_time_range}"  # by a link from one dashboard to another
TOKENS_A_SECOND = "suffix: tok/s"


@dataclass(frozen=True)
class Query:
    """``legend``: in Grafana's notation. ``instant``: the value of this moment alone. ``limit``: a line not to be crossed."""

    expr: str
    legend: str
    instant: bool = False
    limit: bool = False


@dataclass(frozen=True)
class Box:
    """A panel and how much of the grid it takes: ``width`` of 24 columns, ``height`` in rows. ``panel_id`` follows from the
    title alone, so that links to it outlive other panels."""

    panel: Builder
    width: int
    height: int


def panel_id(title: str) -> int:
    return zlib.crc32(title.encode()) % 1_000_000 + 1


def tile(
    title: str,
    text: str,
    unit: str,
    query: Query,
    steps: Steps = (),
    base: str = GREEN,
    size: tuple[int, int] = (4, 4),
    alerts: Sequence[str] = (),
    nothing: tuple[str, str] = ("no data", GREY),
    decimals: int | None = None,
    leads: str = "",
) -> Box:
    """A number of this moment, to be read from afar. Without ``steps`` it has no colour: it is neither good nor bad.
    ``nothing``: text and colour where there is no number. ``leads``: uid of the dashboard that a click opens."""
    now = replace(query, instant=True)  # a course would show its last value, however old
    panel = _common(stat.Panel(), title, text, unit, [now], size, alerts)
    panel.mappings([_no_number(*nothing)]).color_scheme(_by_thresholds())
    if decimals is not None:
        panel.decimals(decimals)
    if leads:
        panel.data_links([link("More", f"/d/{leads}?{KEPT}")])
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    panel.graph_mode(common_model.BigValueGraphMode.NONE).text_mode(common_model.BigValueTextMode.VALUE)
    if steps:
        panel.color_mode(common_model.BigValueColorMode.BACKGROUND).thresholds(thresholds(steps, base))
    else:
        panel.color_mode(common_model.BigValueColorMode.NONE)
    return Box(panel, *size)


def lines(
    title: str,
    text: str,
    unit: str,
    *queries: Query,
    stacked: bool = False,
    steps: Steps = (),
    size: tuple[int, int] = (8, 8),
    alerts: Sequence[str] = (),
    most: float | None = None,
    colours: Mapping[str, str] | None = None,
    nothing: str = "",
) -> Box:
    """Courses over time; ``steps`` are drawn as lines. A limit is a dashed red line. ``colours``:
    by the name of the series. ``nothing``: as in ``tile``."""
    panel = _common(timeseries.Panel(), title, text, unit, queries, size, alerts)
    panel.min(0).fill_opacity(25 if stacked else 8).line_width(1 if stacked else 2)
    panel.show_points(common_model.VisibilityMode.AUTO).span_nulls(False)
    panel.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    panel.legend(_legend()).tooltip(common.VizTooltipOptions().mode(common_model.TooltipDisplayMode.MULTI))
    if nothing:
        panel.no_value(nothing)
    if most is not None:
        panel.max(most)
    for name, colour in (colours or {}).items():
        panel.with_override(_named(name), [_fixed(colour)])
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL))
    if steps:
        panel.thresholds(thresholds(steps, base="transparent"))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(common_model.GraphThresholdsStyleMode.DASHED))
    for query in queries:
        if query.limit:
            panel.fill_opacity(0).with_override(_named(query.legend), _dashed())
    return Box(panel, *size)


def bars(title: str, text: str, unit: str, *queries: Query, steps: Steps, size: tuple[int, int] = (8, 8)) -> Box:
    """One bar for each series, its value at this moment."""
    now = [replace(query, instant=True) for query in queries]
    panel = _common(bargauge.Panel(), title, text, unit, now, size)
    panel.orientation(common_model.VizOrientation.HORIZONTAL).display_mode(common_model.BarGaugeDisplayMode.BASIC)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)).min(0).max(1)
    panel.thresholds(thresholds(steps)).color_scheme(_by_thresholds())
    return Box(panel, *size)


def columns(title: str, text: str, unit: str, label: str, query: Query, size: tuple[int, int] = (8, 8)) -> Box:
    """One column for each value of ``label``, in the order of the alphabet."""
    panel = _common(barchart.Panel(), title, text, unit, [query], size, form=PromQueryFormat.TABLE)
    panel.with_transformation(model.DataTransformerConfig("sortBy", options={"sort": [{"field": label}]}))
    panel.with_transformation(
        model.DataTransformerConfig("filterFieldsByName", options={"include": {"names": [label, "Value"]}})
    )
    panel.x_field(label).min(0).legend(common.VizLegendOptions().show_legend(False))
    return Box(panel, *size)


def heat(title: str, text: str, unit: str, query: Query, size: tuple[int, int] = (8, 8)) -> Box:
    """The course of a histogram."""
    panel = _common(heatmap.Panel(), title, text, unit, [query], size, form=PromQueryFormat.HEATMAP)
    panel.calculate(False).y_axis(heatmap.YAxisConfig().unit(unit)).show_legend()
    panel.color(heatmap.HeatmapColorOptions().scheme("Oranges").steps(64))
    return Box(panel, *size)


def states(
    title: str,
    text: str,
    *queries: Query,
    names: Names,
    size: tuple[int, int] = (8, 8),
    alerts: Sequence[str] = (),
    nothing: str = "",
    click: dashboard.DashboardLink | None = None,
) -> Box:
    """A band for each series. ``names``: what a value is called, and its colour. ``nothing``: as in ``tile``. ``click``:
    where a click on a band leads."""
    panel = _common(statetimeline.Panel(), title, text, "none", queries, size, alerts)
    if nothing:
        panel.no_value(nothing)
    results = {value: model.ValueMappingResult(text=said, color=colour) for value, (said, colour) in names.items()}
    panel.mappings([model.ValueMap(options=results)]).merge_values(True).row_height(0.85)
    panel.show_value(common_model.VisibilityMode.NEVER).fill_opacity(80).legend(_legend())
    panel.thresholds(thresholds((), base=GREY)).color_scheme(_by_thresholds())
    if click is not None:
        panel.data_links([click])
    return Box(panel, *size)


def thresholds(steps: Steps, base: str = GREEN) -> dashboard.ThresholdsConfig:
    found = [model.Threshold(value=None, color=base)] + [model.Threshold(value=at, color=colour) for at, colour in steps]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(found)


def runbook(alert: str) -> str:
    """Where Grafana shows what to do about it."""
    return f"/d/{RUNBOOK}?viewPanel=panel-{panel_id(alert)}"


def link(title: str, url: str) -> dashboard.DashboardLink:
    return dashboard.DashboardLink(title).type(model.DashboardLinkType.LINK).url(url).target_blank(False)


def _common(
    panel: _Panel,
    title: str,
    text: str,
    unit: str,
    queries: Sequence[Query],
    size: tuple[int, int],
    alerts: Sequence[str] = (),
    form: PromQueryFormat = PromQueryFormat.TIME_SERIES,
) -> _Panel:
    panel.id(panel_id(title)).title(title).description(text).unit(unit).datasource(SOURCE)
    panel.span(size[0]).height(size[1]).links([link(f"Runbook: {alert}", runbook(alert)) for alert in alerts])
    for letter, query in zip(string.ascii_uppercase, queries, strict=False):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter).format(form)
        panel.with_target((target.instant() if query.instant else target.range()).datasource(SOURCE))
    return panel


def _legend() -> common.VizLegendOptions:
    shown = common.VizLegendOptions().show_legend(True).placement(common_model.LegendPlacement.BOTTOM)
    return shown.display_mode(common_model.LegendDisplayMode.LIST).calcs([])


def _by_thresholds() -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS)


def _no_number(text: str, colour: str) -> model.SpecialValueMap:
    result = model.ValueMappingResult(text=text, color=colour)
    return model.SpecialValueMap(model.DashboardSpecialValueMapOptions(model.SpecialValueMatch.NULL_AND_NAN, result))


def _named(name: str) -> model.MatcherConfig:
    return model.MatcherConfig("byNames", {"mode": "include", "names": [name]})


def _fixed(colour: str) -> model.DynamicConfigValue:
    return model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})


def _dashed() -> list[model.DynamicConfigValue]:
    style = model.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 8]})
    return [_fixed(RED), style, model.DynamicConfigValue("custom.stacking", {"mode": "none", "group": "limit"})]
