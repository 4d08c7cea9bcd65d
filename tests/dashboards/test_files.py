"""The dashboards that are committed: what the code makes, what Grafana reads, and nothing that is not counted."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import jsonschema
import promql_parser
import pytest
import yaml

from services.common.catalogue import ALL
from services.common.catalogue.metric import Metric
from services.dashboards import frame, parts, runbook
from services.dashboards.__main__ import main
from services.dashboards.pages import dashboards
from tests.dashboards.files import DASHBOARDS, FOLDER, Asked, filled, panels, queries, variables
from tests.dashboards.selectors import parsed

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT.parent / "shared" / "data" / "grafana-dashboard.schema.json"
RULES = [
    rule
    for path in (ROOT / "infra" / "prometheus").glob("*.rules.yml")
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
RECORDED = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
ALERTS = {rule["alert"] for rule in RULES if "alert" in rule}
OF_PROMETHEUS = {"up", "ALERTS"}
METRICS: dict[str, Metric] = {name: metric for metric in ALL for name in metric.samples}
COMMON = {"namespace", "instance", "job"}  # that Prometheus adds
PAGES = [name for name in DASHBOARDS if name != parts.RUNBOOK]
QUERIES = queries()


def test_the_files_are_what_the_code_makes(tmp_path: Path) -> None:
    (tmp_path / "sluice-gone.json").write_text("{}")
    main(tmp_path)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_text() for path in FOLDER.iterdir()}, "run `make dashboards`"


def test_the_dashboards_that_an_operator_needs_are_there() -> None:
    named = {
        "sluice-fleet",
        "sluice-gate",
        "sluice-verifiers",
        "sluice-policy",
        "sluice-energy",
        "sluice-kafka-redis",
        "sluice-edge-workers",
    }
    assert set(DASHBOARDS) == named | {"sluice-runbook"}
    assert [d["uid"] for d in DASHBOARDS.values()] == list(DASHBOARDS)
    assert len({d["title"] for d in DASHBOARDS.values()}) == len(DASHBOARDS)
    assert all(re.fullmatch(r"[a-z-]{8,40}", uid) for uid in DASHBOARDS)


@pytest.mark.parametrize("name", list(DASHBOARDS))
def test_grafana_s_schema_holds(name: str) -> None:
    if not SCHEMA.exists():
        pytest.skip(f"{SCHEMA.name} is not beside this checkout")
    validator = jsonschema.Draft7Validator(json.loads(SCHEMA.read_text()))
    assert [f"{list(e.absolute_path)}: {e.message[:200]}" for e in validator.iter_errors(DASHBOARDS[name])] == []


def test_only_what_is_counted_or_recorded_is_asked_for() -> None:
    known = METRICS.keys() | RECORDED.keys() | OF_PROMETHEUS
    for asked in QUERIES:
        names = {selector.name for selector in parsed(filled(asked.expr))}
        assert names, asked
        assert names <= known, (asked.where, names - known)
    for name, selector, _ in variables():
        assert parsed(filled(selector))[0].name in known, name


def test_matchers_name_labels_and_values_that_there_are() -> None:
    """An operator's own labels, and sets of values by expression, as far as the catalogue knows them."""
    for asked in QUERIES:
        for selector in parsed(filled(asked.expr)):
            metric = METRICS.get(selector.name)
            if metric is None:
                continue
            labels = {label.name: label.values for label in metric.labels}
            for matcher in selector.matchers.matchers:
                assert matcher.name in labels.keys() | COMMON, (asked.where, matcher.name)
                values = labels.get(matcher.name)
                if values and matcher.op in (promql_parser.MatchOp.Equal, promql_parser.MatchOp.Re):
                    wanted = re.compile(matcher.value)
                    assert any(wanted.fullmatch(value) for value in values), (asked.where, matcher.value)
                    plain = [word for word in matcher.value.split("|") if re.fullmatch(r"\w+", word)]
                    assert set(plain) <= set(values), (asked.where, matcher.value)


def test_what_is_recorded_is_used() -> None:
    """By a panel or an alert: a rule costs Prometheus work."""
    used = " ".join([*(asked.expr for asked in QUERIES), *(rule["expr"] for rule in RULES if "alert" in rule)])
    assert [name for name in RECORDED if name not in used] == []


@pytest.mark.parametrize("name", PAGES)
def test_a_panel_says_what_it_is(name: str) -> None:
    for panel in panels(DASHBOARDS[name]):
        title = panel["title"]
        assert len(panel["description"]) > 15, title
        assert panel["description"].endswith("."), title
        assert panel["fieldConfig"]["defaults"]["unit"], title
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, title
        assert panel["targets"], title
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert len(set(legends)) == len(legends), title
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"]), title
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]), title


def test_rates_look_as_far_as_the_scrapes_allow() -> None:
    """In panels over the window that Grafana chooses; a fixed one is for what is said of so many minutes."""
    for asked in QUERIES:
        for function, window in re.findall(r"(\w+) ?\([^()]*\{[^{}]*\}\[([^\]]+)\]", asked.expr):
            if function == "rate":
                assert window == "$__rate_interval", asked
            else:
                assert function in ("increase", "max_over_time"), asked
                assert window in ("5m", "10m", "$__range", frame.CHANGE_WINDOW), asked


@pytest.mark.parametrize("name", list(DASHBOARDS))
def test_panels_neither_overlap_nor_share_an_id(name: str) -> None:
    every = DASHBOARDS[name]["panels"]
    ids = [panel["id"] for panel in every]
    assert len(set(ids)) == len(ids)
    cells: set[tuple[int, int]] = set()
    for panel in every:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= frame.COLUMNS, panel["title"]
        mine = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert not cells & mine, panel["title"]
        cells |= mine
    bottom = max(y for _, y in cells) + 1
    assert {y for _, y in cells} == set(range(bottom)), "no empty line"


def test_the_fleet_is_on_one_screen() -> None:
    """1080 lines of a browser hold 27 rows of the grid, each 30 pixels and 8 between, below Grafana's own bars."""
    assert max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in panels(DASHBOARDS["sluice-fleet"])) <= 25


@pytest.mark.parametrize("name", PAGES)
def test_variables_hold_with_and_without_kubernetes(name: str) -> None:
    """ "All" is everything, also what lacks the label; each variable is used, and each that is used is there."""
    dashboard = DASHBOARDS[name]
    found = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert list(found)[:2] == ["datasource", "namespace"]
    for variable in found.values():
        if variable["type"] == "query":
            assert (variable["includeAll"], variable["allValue"], variable["multi"]) == (True, ".*", True)
            assert variable["current"]["value"] == "$__all"
    used = set(re.findall(r"\$\{?([a-z]\w+)", json.dumps([dashboard["panels"], dashboard["annotations"]])))
    assert used == set(found)
    for asked in QUERIES:
        for selector in parsed(filled(asked.expr, "chosen")):
            assert any(m.name == "namespace" and m.value == "chosen" for m in selector.matchers.matchers), asked


@pytest.mark.parametrize("name", list(DASHBOARDS))
def test_dashboards_lead_to_each_other(name: str) -> None:
    dashboard = DASHBOARDS[name]
    assert frame.TAG in dashboard["tags"]
    assert [link for link in dashboard["links"] if link["tags"] == [frame.TAG] and link["keepTime"]]
    assert "inControlsMenu" not in json.dumps(dashboard), "links and switches are where one sees them"


@pytest.mark.parametrize("name", PAGES)
def test_time_and_notes_are_set(name: str) -> None:
    dashboard = DASHBOARDS[name]
    assert (dashboard["time"], dashboard["refresh"], dashboard["graphTooltip"]) == ({"from": "now-1h", "to": "now"}, "30s", 1)
    assert [(note["name"], note["enable"]) for note in dashboard["annotations"]["list"]] == [
        ("Policy changes", True),
        ("Alerts", True),
    ]


def test_links_to_the_runbook_lead_to_a_section_that_is_there() -> None:
    sections = runbook.sections(runbook.FILE.read_text())
    assert sections.keys() == ALERTS
    ids = {panel["id"]: panel["title"] for panel in panels(DASHBOARDS[parts.RUNBOOK])}
    linked = set()
    for name in PAGES:
        for panel in panels(DASHBOARDS[name]):
            for link in panel.get("links", ()):
                number = re.fullmatch(rf"/d/{parts.RUNBOOK}\?viewPanel=panel-(\d+)", link["url"])
                assert number is not None, link["url"]
                assert link["title"] == f"Runbook: {ids[int(number[1])]}"
                if panel["title"] != "Alerts that fire":
                    linked.add(ids[int(number[1])])
    assert linked == ALERTS, "each alert is said on the panel that shows its figure"


def test_a_click_leads_to_a_dashboard_that_is_there() -> None:
    found = set()
    for name in PAGES:
        for panel in panels(DASHBOARDS[name]):
            for link in panel["fieldConfig"]["defaults"].get("links", ()):
                where = re.fullmatch(r"/d/([a-z-]+)(\?.+)?", link["url"])
                assert where is not None, link["url"]
                assert where[1] in DASHBOARDS, link["url"]
                assert where[2] == f"?{parts.KEPT}" or where[1] == parts.RUNBOOK, "same time, namespace and data source"
                found.add(where[1])
    assert found == DASHBOARDS.keys() - {"sluice-fleet"}


def test_the_runbook_is_all_there() -> None:
    shown = {panel["title"]: panel["options"]["content"] for panel in panels(DASHBOARDS[parts.RUNBOOK])}
    for alert, said in runbook.sections(runbook.FILE.read_text()).items():
        assert shown[alert] == said
        assert "](" not in said, "no link that leads nowhere in Grafana"
        assert len(said) > 100


def test_a_budget_is_a_line_of_its_own() -> None:
    """Wherever a budget is asked for, beside what it bounds, it is drawn as a limit."""
    for name in PAGES:
        for panel in panels(DASHBOARDS[name]):
            limits = [t["legendFormat"] for t in panel["targets"] if t["expr"].startswith("max (sluice_policy_budget")]
            if limits and panel["type"] == "timeseries":
                found = [o for o in panel["fieldConfig"]["overrides"] if o["matcher"]["options"]["names"] == limits]
                assert found, panel["title"]


def test_two_panels_with_one_title_are_refused() -> None:
    asked = parts.Query("up", "up")
    row = frame.Row("Row", [parts.tile("Same", "It is the same one.", "none", asked) for _ in range(2)])
    with pytest.raises(ValueError, match="Same: two panels with one title"):
        frame.assemble(frame.Page("sluice-test", "Test", "Why?", [row]))
    wide = frame.Row("Row", [parts.tile(str(n), "It is wide.", "none", asked, size=(13, 4)) for n in range(2)])
    with pytest.raises(ValueError, match="Row: a line of panels is wider than 24 columns"):
        frame.assemble(frame.Page("sluice-test", "Test", "Why?", [wide]))


def test_dashboards_can_be_made_twice() -> None:
    assert dashboards() == dashboards()


def test_asked_is_what_panels_ask() -> None:
    down = 'sum (up{namespace=~"$namespace", job=~"(.+/)?sluice-.+"} == bool 0)'
    assert Asked("sluice-fleet / Services down", "now", down, instant=True) in QUERIES


@pytest.mark.parametrize("name", PAGES)
def test_a_number_is_of_this_moment(name: str) -> None:
    """The last value of a course stays when its source has gone; and what is no number has no good colour."""
    for panel in panels(DASHBOARDS[name]):
        if panel["type"] in ("stat", "bargauge"):
            assert all(target["instant"] and not target["range"] for target in panel["targets"]), panel["title"]
        if panel["type"] == "stat":
            (mapping,) = panel["fieldConfig"]["defaults"]["mappings"]
            assert mapping["options"]["match"] == "null+nan"
            assert mapping["options"]["result"]["color"] != "green" or panel["title"] == "Alerts", panel["title"]


def test_grafana_finds_them_in_the_compose_stack() -> None:
    infra = ROOT / "infra"
    (provider,) = yaml.safe_load((infra / "grafana" / "provisioning" / "dashboards" / "sluice.yaml").read_text())["providers"]
    (source,) = yaml.safe_load((infra / "grafana" / "provisioning" / "datasources" / "prometheus.yaml").read_text())[
        "datasources"
    ]
    grafana = yaml.safe_load((infra / "compose" / "compose.yaml").read_text())["services"]["grafana"]
    scrapes = yaml.safe_load((infra / "compose" / "prometheus.yml").read_text())
    assert f"../grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
    assert "../grafana/provisioning:/etc/grafana/provisioning:ro" in grafana["volumes"]
    assert source["type"] == "prometheus"
    assert source["url"] == "${PROMETHEUS_URL}"
    assert grafana["environment"]["PROMETHEUS_URL"].startswith("http")
    assert source["jsonData"]["timeInterval"] == scrapes["global"]["scrape_interval"], "rates look at four scrapes at least"
    jobs = {job["job_name"] for job in scrapes["scrape_configs"]}
    assert {"sluice-edge-worker", "sluice-verifier", "sluice-policy"} <= jobs
