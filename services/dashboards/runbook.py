"""docs/runbook.md as a dashboard: whoever is called has it at hand where the alert is shown. Pure but for ``read``."""

from __future__ import annotations

import re
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, text
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.text import TextMode

from services.dashboards.frame import TAG
from services.dashboards.parts import RUNBOOK, panel_id

FILE = Path(__file__).parents[2] / "docs" / "runbook.md"
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)]+\)")  # to files, which are not there in Grafana


def sections(markdown: str) -> dict[str, str]:
    """By heading of the second level, in their order."""
    _, *parts = re.split(r"^## (.+)$", markdown, flags=re.MULTILINE)
    return dict(zip(parts[::2], (_LINK.sub(r"\1", part.strip()) for part in parts[1::2]), strict=True))


def assemble(markdown: str) -> dashboard.Dashboard:
    built = dashboard.Dashboard("Sluice / Runbook").uid(RUNBOOK).tags([TAG]).editable().timezone("browser")
    built.description("What do I do about this alert? The same text as docs/runbook.md.")
    siblings = dashboard.DashboardLink("Sluice").type(model.DashboardLinkType.DASHBOARDS).tags([TAG])
    built.link(siblings.keep_time(True).icon("external link").tooltip("The dashboards"))
    for number, (alert, said) in enumerate(sections(markdown).items()):
        panel = text.Panel().id(panel_id(alert)).title(alert).description(f"What to do when {alert} fires")
        panel.mode(TextMode.MARKDOWN).content(said)
        built.with_panel(panel.grid_pos(model.GridPos(h=6, w=12, x=12 * (number % 2), y=6 * (number // 2))))
    return built
