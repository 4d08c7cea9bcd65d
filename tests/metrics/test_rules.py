"""Recording and alert rules, by Prometheus's own promtool: each alert fires where it shall, and only there."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from services.common.catalogue import ALL
from services.common.catalogue.metric import Kind
from services.common.meters import Meters
from tests.metrics.rule_cases import CASES, MORE, Series
from tests.policy.prometheus import Unavailable, program

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "infra" / "prometheus").glob("*.rules.yml"))
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
RULES: list[dict[str, Any]] = [
    rule for path in FILES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}


@pytest.fixture(scope="module")
def promtool() -> Path:
    try:
        return program().parent / "promtool"
    except Unavailable as reason:
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"promtool is needed with CI=true: {reason}")
        pytest.skip(f"promtool cannot be had: {reason}")


def _run(promtool: Path, *words: str) -> str:
    done = subprocess.run([str(promtool), *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _unit(alert: str, series: Series, at: int, firing: int) -> dict[str, Any]:
    """One unit of promtool's: in Prometheus a count of nothing is no sample at all."""
    found = [{"labels": "{}", "value": firing}] if firing else []
    return {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
                "eval_time": f"{at}m",
                "exp_samples": found,
            }
        ],
    }


def _tests(folder: Path, *, inverted: bool) -> Path:
    """``inverted``: with the two sides of each case changed over."""
    units = []
    for alert, case in (*CASES.items(), *MORE):
        fires, quiet = (case.quiet, case.fires) if inverted else (case.fires, case.quiet)
        units += [_unit(alert, fires, case.at, 1), _unit(alert, quiet, case.at, 0)]
    path = folder / "tests.yml"  # JSON is YAML
    path.write_text(json.dumps({"rule_files": [str(f) for f in FILES], "evaluation_interval": "30s", "tests": units}))
    return path


def test_each_alert_fires_and_does_not_fire(promtool: Path, tmp_path: Path) -> None:
    assert CASES.keys() == ALERTS.keys()
    _run(promtool, "test", "rules", str(_tests(tmp_path, inverted=False)))


def test_the_cases_tell_firing_from_quiet(promtool: Path, tmp_path: Path) -> None:
    """Changed over, every single case must fail: none holds by an alert that always, or never, fires."""
    done = subprocess.run(
        [str(promtool), "test", "rules", str(_tests(tmp_path, inverted=True))], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    said = done.stdout + done.stderr
    expected = Counter(dict.fromkeys(ALERTS, 2)) + Counter({name: 2 for name, _ in MORE})
    assert {name: said.count(f'alertname=\\"{name}\\"') for name in ALERTS} == expected


def test_the_rules_are_good(promtool: Path) -> None:
    assert len(FILES) == 2
    _run(promtool, "check", "rules", *map(str, FILES))


def test_the_names_are_good(promtool: Path) -> None:
    """By promtool's own rules for names, units and kinds, in the exposition of all metrics at once."""
    registry = CollectorRegistry()
    meters = Meters(registry)
    makers: dict[Kind, Callable[..., Any]] = {
        Kind.COUNTER: meters.counter,
        Kind.GAUGE: meters.gauge,
        Kind.HISTOGRAM: meters.histogram,
    }
    for metric in ALL:
        makers[metric.kind](metric)
    text = generate_latest(registry)
    done = subprocess.run([str(promtool), "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
    bad = text.replace(b"sluice_rounds_total", b"sluice_rounds")
    assert subprocess.run([str(promtool), "check", "metrics"], input=bad, capture_output=True, check=False).returncode != 0


def test_rules_use_names_of_the_catalogue_only() -> None:
    known = {name for metric in ALL for name in metric.samples} | RECORDED
    for rule in RULES:
        used = set(re.findall(r"sluice[_:][a-z0-9_:]+", rule["expr"]))
        assert used <= known, rule.get("alert") or rule["record"]
        assert used or "up{" in rule["expr"]


def test_each_alert_has_its_section_in_the_runbook() -> None:
    sections = re.findall(r"^## (.+)$", RUNBOOK, flags=re.MULTILINE)
    assert sections == list(ALERTS), "in the order of the rules"
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
