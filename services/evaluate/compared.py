"""Families of methods where they are alike in one figure, as Markdown and JSON. What is modelled has columns of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from services.evaluate.bootstrap import Figure
from services.evaluate.curves import (
    DAMAGE,
    ENERGY,
    ENERGY_TO_HLM,
    EXACT,
    EXACT_TO_HLM,
    NOT_BRACKETED,
    SKIP,
    UPLOAD,
    Comparison,
)

ABLATION = {
    DAMAGE: "damage",
    f"{DAMAGE}_difference": "damage, less that of {reference}",
    SKIP: "skip rate",
    EXACT: "exact match",
    f"{EXACT}_difference": "exact match, less that of {reference}",
    EXACT_TO_HLM: "exact match, less that of hlm",
    ENERGY: "modelled: J/token",
    ENERGY_TO_HLM: "modelled: energy/hlm",
}
AT_DAMAGE = {
    UPLOAD: "upload rate",
    f"{UPLOAD}_difference": "upload rate, less that of {reference}",
    SKIP: "skip rate",
    EXACT: "exact match",
    EXACT_TO_HLM: "exact match, less that of hlm",
    ENERGY: "modelled: J/token",
    ENERGY_TO_HLM: "modelled: energy/hlm",
}
AT_SKIP = {DAMAGE: "damage", f"{DAMAGE}_difference": "damage, less that of {reference}"}


def long(figure: Figure) -> str:
    """Value and interval; empty where there is none."""
    if figure.value is None:
        return NOT_BRACKETED if figure.reason == NOT_BRACKETED else ""
    return f"{figure.value:.3g} ({figure.low:.3g} to {figure.high:.3g})"


def page(found: Sequence[Comparison]) -> str:
    """Sections of the report; empty without comparisons."""
    if not found:
        return ""
    parts = [
        "## Where methods are alike",
        "Families are methods whose labels differ in the value alone; between their points lies a straight line. Each draw of "
        "the bootstrap has its own curves, so differences are paired. Where a curve does not reach the place, the cell says "
        f"`{NOT_BRACKETED}`.",
    ]
    for axis, columns, title in (
        (UPLOAD, ABLATION, "At an upload rate of {}"),
        (DAMAGE, AT_DAMAGE, "At a damage of {}"),
        (SKIP, AT_SKIP, "At a skip rate of {} (of the drafted tokens)"),
    ):
        for one in found:
            if one.axis == axis:
                parts += [f"### {title.format(f'{one.value:g}')}", _table(one, columns)]
    return "\n\n".join(parts)


def _table(one: Comparison, columns: dict[str, str]) -> str:
    shown = {key: text for key, text in columns.items() if one.reference or not key.endswith("_difference")}
    heads = [text.format(reference=f"`{one.reference}`") for text in shown.values()]
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for family, figures in one.families.items():
        cells = (long(figures[key]) if key in figures else "" for key in shown)
        lines.append(f"| `{family}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def to_json(found: Sequence[Comparison]) -> list[dict[str, Any]]:
    """As ``Comparison``; figures with ``value``, ``low``, ``high`` and, where there is none, ``reason``."""
    return [
        {
            "axis": one.axis,
            "value": one.value,
            "reference": one.reference,
            "families": {f: {key: asdict(figure) for key, figure in got.items()} for f, got in one.families.items()},
        }
        for one in found
    ]
