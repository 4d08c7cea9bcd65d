"""Methods that differ in one value are the points of a curve; curves are compared where they are alike in something. Pure.

Between its points a curve is a straight line; beyond them there is none, and a comparison there is not made. Each draw of the
bootstrap has its own curve, the same prompts for all of them, so that differences are paired. The few draws whose curve ends
just short of the place take its nearest end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.common.rng import Floats
from services.evaluate import labels
from services.evaluate.bootstrap import Figure, Resampled, Sampled
from services.evaluate.summary import NO_ANSWER, NO_HLM, Row, column, marks

NOT_BRACKETED = "not bracketed"
DAMAGES = (0.03, 0.06, 0.12)
SKIP_RATES = (0.4, 0.5, 0.6, 0.7)
UPLOAD, SKIP, DAMAGE = "upload_rate", "skip_rate", "damage"
EXACT, EXACT_TO_HLM = "exact_match", "exact_match_difference_to_hlm"
ENERGY, ENERGY_TO_HLM = "energy_joules_per_token", "energy_relative_to_hlm"
FIGURES = (UPLOAD, SKIP, DAMAGE, EXACT, EXACT_TO_HLM, ENERGY, ENERGY_TO_HLM)
Point = Mapping[str, Sampled]  # figures of one method


@dataclass(frozen=True)
class Curve:
    """``labels`` and their ``points``, in the order of the run."""

    family: str
    labels: tuple[str, ...]
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Comparison:
    """Families where ``axis`` is ``value``: figures of each, and differences to ``reference`` (named ``NAME_difference``)."""

    axis: str
    value: float
    reference: str | None
    families: Mapping[str, Mapping[str, Figure]]


def families(names: Sequence[str]) -> dict[str, list[str]]:
    """Labels by family, in order."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(labels.read(name).family, []).append(name)
    return found


def curves(rows: Mapping[str, Sequence[Row]], *, seed: int) -> list[Curve]:
    """Of the families with two points at least. ``seed``: of the draws, which are those of ``summary.summarise``."""
    draws = Resampled(len(rows["llm"]), seed)
    hlm = _point(rows["hlm"], draws, None) if "hlm" in rows else None
    grouped = [(family, names) for family, names in families(list(rows)).items() if len(names) > 1]
    return [Curve(f, tuple(names), tuple(_point(rows[n], draws, hlm) for n in names)) for f, names in grouped]


def _point(rows: Sequence[Row], draws: Resampled, hlm: Point | None) -> Point:
    answered = column(rows, lambda r: r.record.answered)
    drafted = column(rows, lambda r: r.record.answered - r.record.bonus)
    judged = column(rows, lambda r: r.record.judged)
    found = {
        UPLOAD: draws.sampled(judged, answered),
        SKIP: draws.sampled(drafted - judged, drafted),
        DAMAGE: draws.sampled(column(rows, lambda r: r.record.audit_sum), answered),
        EXACT: draws.sampled(*marks(rows)),
        ENERGY: draws.sampled(column(rows, lambda r: r.modelled.joules), answered),
    }
    if hlm is not None:
        found[EXACT_TO_HLM] = found[EXACT] - hlm[EXACT]
        found[ENERGY_TO_HLM] = found[ENERGY] / hlm[ENERGY]
    return found


def compared(found: Sequence[Curve], axis: str, value: float, wanted: Sequence[str]) -> Comparison:
    """The figures ``wanted`` of every curve where its ``axis`` is ``value``. Reference: the first curve of ``u-hlm``."""
    reference = next((c for c in found if labels.read(c.labels[0]).name == "u-hlm"), None)
    base = {name: interpolated(reference, axis, value, name) for name in wanted} if reference else {}

    def figures(curve: Curve) -> dict[str, Figure]:
        made: dict[str, Figure] = {}
        for name in wanted:
            here, there = interpolated(curve, axis, value, name), base.get(name)
            made[name] = here if isinstance(here, Figure) else here.figure()
            if curve is not reference and isinstance(here, Sampled) and isinstance(there, Sampled):
                made[f"{name}_difference"] = (here - there).figure()
        return made

    return Comparison(axis, value, reference.family if reference else None, {c.family: figures(c) for c in found})


def interpolated(curve: Curve, axis: str, value: float, name: str) -> Sampled | Figure:
    """Figure ``name`` where ``axis`` is ``value``; a ``Figure`` that says why where there is none."""
    if any(key not in point or not np.isfinite(point[key].value) for point in curve.points for key in (axis, name)):
        return Figure(None, reason=NO_ANSWER if name in curve.points[0] else NO_HLM)
    x, y = ([point[key] for point in curve.points] for key in (axis, name))
    middle = np.array([[p.value] for p in x]), np.array([[p.value] for p in y])
    if not middle[0].min() <= value <= middle[0].max():
        return Figure(None, reason=NOT_BRACKETED)
    drawn = np.stack([p.drawn for p in x]), np.stack([p.drawn for p in y])
    return Sampled(float(_along(*middle, value)[0]), _along(*drawn, value))


def _along(x: Floats, y: Floats, value: float) -> Floats:
    """``y`` at ``value`` on the lines through the points of each column; both `[points, columns]`."""
    order = np.argsort(x, axis=0, kind="stable")
    x, y = np.take_along_axis(x, order, axis=0), np.take_along_axis(y, order, axis=0)
    above = np.clip((x < value).sum(axis=0), 1, len(x) - 1)[None]
    (x0, x1), (y0, y1) = (
        (np.take_along_axis(a, above - 1, axis=0)[0], np.take_along_axis(a, above, axis=0)[0]) for a in (x, y)
    )
    width = x1 - x0
    share = np.clip((value - x0) / np.where(width > 0.0, width, 1.0), 0.0, 1.0)
    out: Floats = y0 + share * (y1 - y0)
    return out


def comparisons(rows: Mapping[str, Sequence[Row]], *, seed: int, at_rate: float) -> list[Comparison]:
    """At the upload rate ``at_rate``, at equal damage and at equal shares of skipped tokens; none without a curve."""
    found = curves(rows, seed=seed)
    if not found:
        return []
    wanted: list[tuple[str, float, tuple[str, ...]]] = [
        (UPLOAD, at_rate, (SKIP, DAMAGE, EXACT, EXACT_TO_HLM, ENERGY, ENERGY_TO_HLM))
    ]
    wanted += [(DAMAGE, value, (UPLOAD, SKIP, EXACT, EXACT_TO_HLM, ENERGY, ENERGY_TO_HLM)) for value in DAMAGES]
    wanted += [(SKIP, value, (DAMAGE,)) for value in SKIP_RATES]
    return [compared(found, *one) for one in wanted]
