"""What all dashboards share: variables, links to each other, annotations, time range, and the grid. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from grafana_foundation_sdk.builders import dashboard, prometheus
from grafana_foundation_sdk.models import dashboard as model

from services.common.catalogue import edge, policy, shared
from services.dashboards.parts import ORANGE, RED, SOURCE, Box, panel_id
from services.dashboards.promql import NAMESPACE, increase

TAG = "sluice"
COLUMNS = 24
CHANGE_WINDOW = "30s"  # two scrapes at least


@dataclass(frozen=True)
class Row:
    """Panels under one heading; they fill lines of the grid from left to right."""

    title: str
    boxes: Sequence[Box]


@dataclass(frozen=True)
class Page:
    """A dashboard. ``asks``: the question that it answers. ``variables``: besides data source and namespace."""

    uid: str
    title: str
    asks: str
    rows: Sequence[Row]
    variables: Sequence[dashboard.QueryVariable] = field(default=())


def device_class() -> dashboard.QueryVariable:
    return _variable("device_class", "Device class", f"label_values({edge.GAMMA_BOUND.series}{{{NAMESPACE}}}, device_class)")


def instance(of: str) -> dashboard.QueryVariable:
    """``of``: a metric that only those have which are to be chosen from."""
    return _variable("instance", "Instance", f"label_values({of}{{{NAMESPACE}}}, instance)")


def assemble(page: Page) -> dashboard.Dashboard:
    """Raises ``ValueError`` where two panels of a page have one title or a line of panels does not fit the grid."""
    built = dashboard.Dashboard(page.title).uid(page.uid).description(page.asks).tags([TAG]).timezone("browser")
    built.time("now-1h", "now").refresh("30s").tooltip(model.DashboardCursorSync.CROSSHAIR).editable()
    built.timepicker(dashboard.TimePicker().refresh_intervals(["10s", "30s", "1m", "5m", "15m"]))
    built.variables([_source(), _namespaces(), *page.variables])
    built.links([_siblings()]).annotations([_policy_changes(), _alerts()])
    used: set[int] = set()
    top = 0
    for row in page.rows:
        built.with_row(
            dashboard.Row(row.title).id(panel_id(f"row {row.title}")).grid_pos(model.GridPos(h=1, w=COLUMNS, x=0, y=top))
        )
        top = _place(built, row, top + 1, used)
    return built


def _place(built: dashboard.Dashboard, row: Row, top: int, used: set[int]) -> int:
    """The first line below the row's panels."""
    left = tallest = 0
    for box in row.boxes:
        if left + box.width > COLUMNS:
            raise ValueError(f"{row.title}: a line of panels is wider than {COLUMNS} columns")
        panel = box.panel.build()
        if panel.id_val is None or panel.id_val in used:
            raise ValueError(f"{panel.title}: two panels with one title")
        used.add(panel.id_val)
        built.with_panel(box.panel.grid_pos(model.GridPos(h=box.height, w=box.width, x=left, y=top)))
        left, tallest = left + box.width, max(tallest, box.height)
        if left == COLUMNS:
            left, top, tallest = 0, top + tallest, 0
    return top + tallest


def _source() -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _namespaces() -> dashboard.QueryVariable:
    return _variable("namespace", "Namespace", f"label_values({shared.LOOP_LAG.name}_count, namespace)")


def _variable(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """Any number of values; "All" is everything, also what has no such label."""
    made = dashboard.QueryVariable(name).label(label).datasource(SOURCE).query(query)
    made.definition(query).refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
    made.sort(model.VariableSort.NATURAL_ASC).multi(True).include_all(True).all_value(".*")
    return made.current(model.VariableOption(selected=True, text="All", value="$__all"))


def _siblings() -> dashboard.DashboardLink:
    links = dashboard.DashboardLink("Sluice").type(model.DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(False)
    return (
        links.include_vars(True).keep_time(True).icon("external link").tooltip("The other dashboards, same time and namespace")
    )


def _policy_changes() -> dashboard.AnnotationQuery:
    changes = increase(policy.CHANGES, window=CHANGE_WINDOW)
    return _annotation(
        "Policy changes", f"max by (device_class) ({changes}) > 0", "{{device_class}}: k or gamma changed", ORANGE
    )


def _alerts() -> dashboard.AnnotationQuery:
    firing = f'ALERTS{{{NAMESPACE}, alertname=~"Sluice.+", alertstate="firing"}}'
    return _annotation("Alerts", f"max by (alertname, severity) ({firing})", "{{alertname}} ({{severity}})", RED)


def _annotation(name: str, expression: str, text: str, colour: str) -> dashboard.AnnotationQuery:
    target = prometheus.Dataquery().expr(expression).ref_id("Anno").range().datasource(SOURCE)
    made = dashboard.AnnotationQuery().name(name).datasource(SOURCE).enable(True).icon_color(colour).target(target)
    return made.expr(expression).step(CHANGE_WINDOW).title_format(name).text_format(text)
