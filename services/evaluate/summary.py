"""Figures of each method out of the records of all prompts, each with its interval. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.common.rng import Floats
from services.evaluate.bootstrap import Figure, Resampled
from services.evaluate.modelled import Modelled
from services.evaluate.similarity import Likeness
from services.evaluate.trace import Record

MEASURED, COUNTED, MODELLED = "measured", "counted", "modelled"
SOURCES = {
    "upload_rate": COUNTED,
    "upload_rate_of_drafted": COUNTED,
    "llm_passes_per_token": COUNTED,
    "llm_tokens_per_token": COUNTED,
    "uplink_bytes_per_token": COUNTED,
    "downlink_bytes_per_token": COUNTED,
    "damage": MEASURED,
    "exact_match": MEASURED,
    "exact_match_relative_to_llm": MEASURED,
    "exact_match_difference_to_llm": MEASURED,
    "exact_match_difference_to_hlm": MEASURED,
    "cosine": MEASURED,
    "bertscore": MEASURED,
    "tokens_per_second": MEASURED,
    "modelled_tokens_per_second": MODELLED,
    "modelled_seconds_per_answer": MODELLED,
    "modelled_unverified_share": MODELLED,
    "energy_joules_per_token": MODELLED,
    "device_joules_per_token": MODELLED,
    "radio_joules_per_token": MODELLED,
    "server_joules_per_token": MODELLED,
    "energy_relative_to_llm": MODELLED,
    "energy_relative_to_hlm": MODELLED,
}
NO_HLM = "hlm was not run"
NO_ANSWER = "no prompt has one right answer"
Figures = dict[str, Figure]


@dataclass(frozen=True)
class Row:
    """One answer with what was made of it. ``likeness``: to the large model's text, ``None`` without a sentence model."""

    record: Record
    modelled: Modelled
    likeness: Likeness | None


def summarise(rows: Mapping[str, Sequence[Row]], *, seed: int, no_likeness: str) -> dict[str, Figures]:
    """``rows`` by method, prompts in the same order; ``llm`` is one of them. ``no_likeness``: why texts were not compared."""
    draws = Resampled(len(rows["llm"]), seed)
    return {name: _Method(mine, rows["llm"], rows.get("hlm"), draws, no_likeness).figures() for name, mine in rows.items()}


def to_json(figures: Figures) -> dict[str, Any]:
    """Value, interval and source of each figure; where there is no value, the reason."""
    found = {}
    for name, figure in figures.items():
        known = {"value": figure.value, "low": figure.low, "high": figure.high, "source": SOURCES[name]}
        found[name] = known | ({"reason": figure.reason} if figure.reason else {})
    return found


class _Method:
    def __init__(
        self, rows: Sequence[Row], llm: Sequence[Row], hlm: Sequence[Row] | None, draws: Resampled, no_likeness: str
    ) -> None:
        self._rows, self._llm, self._hlm, self._draws, self._no_likeness = rows, llm, hlm, draws, no_likeness

    def figures(self) -> Figures:
        """In the order of ``SOURCES``."""
        found = self._counted() | self._quality() | self._modelled()
        return {name: found[name] for name in SOURCES}

    def _counted(self) -> Figures:
        return {
            "upload_rate": self._per_token(lambda r: r.record.judged),
            "upload_rate_of_drafted": self._upload_of_drafted(),
            "llm_passes_per_token": self._per_token(lambda r: r.record.passes),
            "llm_tokens_per_token": self._per_token(lambda r: r.record.fed),
            "uplink_bytes_per_token": self._per_token(lambda r: r.record.up_bytes),
            "downlink_bytes_per_token": self._per_token(
                lambda r: r.record.down_bytes + sum(e.down_bytes for e in r.record.exchanges)
            ),
            "damage": self._per_token(lambda r: r.record.audit_sum),
            "tokens_per_second": self._speed(),
        }

    def _speed(self) -> Figure:
        seconds = [r.record.measured_seconds for r in self._rows if r.record.measured_seconds is not None]
        if len(seconds) < len(self._rows):
            return Figure(None, reason="several answers were written at once (--parallel): none has a time of its own")
        return self._draws.ratio(self._answered(self._rows), np.array(seconds))

    def _quality(self) -> Figures:
        right, marked = marks(self._rows)
        theirs = marks(self._llm)
        exact = {
            "exact_match": self._draws.ratio(right, marked),
            "exact_match_relative_to_llm": self._draws.relative(right, marked, *theirs),
            "exact_match_difference_to_llm": self._draws.difference(right, marked, *theirs),
            "exact_match_difference_to_hlm": Figure(None, reason=NO_HLM)
            if self._hlm is None
            else self._draws.difference(right, marked, *marks(self._hlm)),
        }
        if not marked.any():
            exact = dict.fromkeys(exact, Figure(None, reason=NO_ANSWER))
        return exact | {name: self._alike(name) for name in ("cosine", "bertscore")}

    def _alike(self, name: str) -> Figure:
        values = [getattr(r.likeness, name) for r in self._rows if r.likeness is not None]
        if len(values) < len(self._rows):
            return Figure(None, reason=self._no_likeness)
        return self._draws.ratio(np.array(values, dtype=float), np.ones(len(values)))

    def _modelled(self) -> Figures:
        answered = self._answered(self._rows)
        seconds = column(self._rows, lambda r: r.modelled.seconds)
        joules = column(self._rows, lambda r: r.modelled.joules)
        return {
            "modelled_tokens_per_second": self._draws.ratio(answered, seconds),
            "modelled_seconds_per_answer": self._draws.ratio(seconds, np.ones(len(seconds))),
            "modelled_unverified_share": self._per_token(lambda r: r.modelled.unverified),
            "energy_joules_per_token": self._draws.ratio(joules, answered),
            "device_joules_per_token": self._per_token(lambda r: r.modelled.device_joules),
            "radio_joules_per_token": self._per_token(lambda r: r.modelled.radio_joules),
            "server_joules_per_token": self._per_token(lambda r: r.modelled.server_joules),
            "energy_relative_to_llm": self._energy_relative(joules, answered, self._llm),
            "energy_relative_to_hlm": self._energy_relative(joules, answered, self._hlm),
        }

    def _energy_relative(self, joules: Floats, answered: Floats, to: Sequence[Row] | None) -> Figure:
        if to is None:
            return Figure(None, reason=NO_HLM)
        theirs = column(to, lambda r: r.modelled.joules)
        return self._draws.relative(joules, answered, theirs, self._answered(to))

    def _upload_of_drafted(self) -> Figure:
        """The papers' rate: of the tokens that the small model drafted; bonus tokens are none of them."""
        if self._rows[0].record.streamed:
            return Figure(None, reason="nothing is drafted")
        drafted = column(self._rows, lambda r: r.record.answered - r.record.bonus)
        return self._draws.ratio(column(self._rows, lambda r: r.record.judged), drafted)

    def _per_token(self, of: Callable[[Row], float]) -> Figure:
        return self._draws.ratio(column(self._rows, of), self._answered(self._rows))

    @staticmethod
    def _answered(rows: Sequence[Row]) -> Floats:
        return column(rows, lambda r: r.record.answered)


def column(rows: Sequence[Row], of: Callable[[Row], float]) -> Floats:
    """`[prompts]`."""
    return np.array([of(row) for row in rows], dtype=float)


def marks(rows: Sequence[Row]) -> tuple[Floats, Floats]:
    """Right answers, and answers that can be marked; both `[prompts]`."""
    return column(rows, lambda r: r.record.correct is True), column(rows, lambda r: r.record.correct is not None)
