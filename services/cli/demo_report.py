"""What the demo measured: figures, the JSON object and the table. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

DECISIONS = ("skipped", "accepted", "corrected", "bonus", "unverified")


@dataclass(frozen=True)
class Timed:
    """One answer: its final ``sluice`` object (empty for a bare model), answered tokens, seconds on the client's clock."""

    summary: dict[str, Any]
    tokens: int
    seconds: float


def tokens_per_second(answers: Sequence[Timed]) -> float:
    """All tokens over all seconds; 0 without any."""
    seconds = sum(answer.seconds for answer in answers)
    return sum(answer.tokens for answer in answers) / seconds if seconds > 0 else 0.0


@dataclass
class Report:
    """``uplink_bytes``: written to the sockets towards Kafka and Redis during the answers."""

    answers: list[Timed]
    slm_only: list[Timed]
    llm_only: list[Timed]
    uplink_bytes: int
    uplink_source: str
    lag_p99_seconds: dict[str, float | None]
    outage: dict[str, Any] = field(default_factory=dict)
    leftover_processes: int = 0

    def _sum(self, key: str) -> float:
        return sum(float(answer.summary.get(key) or 0) for answer in self.answers)

    @property
    def tokens(self) -> dict[str, int]:
        counts = {name: sum(int(answer.summary["tokens"][name]) for answer in self.answers) for name in DECISIONS}
        return {**counts, "total": sum(counts.values())}

    @property
    def speeds(self) -> dict[str, float]:
        kinds = {"sluice": self.answers, "llm_only": self.llm_only, "slm_only": self.slm_only}
        return {name: round(tokens_per_second(answers), 2) for name, answers in kinds.items()}

    def as_json(self) -> dict[str, Any]:
        """The object of `sluice demo --json`. Rates are over all answered tokens; ``null``: nothing to measure."""
        tokens = self.tokens
        total, judged = tokens["total"], self._sum("judged")
        audits = sum(float(answer.summary["damage"]) * int(answer.summary["tokens"]["total"]) for answer in self.answers)
        return {
            "answers": len(self.answers),
            "mode": self.answers[0].summary["mode"],
            "tokens": tokens,
            "rounds": int(self._sum("rounds")),
            "passes_per_token": _ratio(self._sum("rounds"), total),
            "uplink_bytes": self.uplink_bytes,
            "uplink_bytes_per_token": _ratio(self.uplink_bytes, total),
            "upload_rate": _ratio(judged, total),
            "damage": _ratio(audits, total),
            "acceptance": _ratio(tokens["accepted"], judged),
            "tokens_per_second": self.speeds,
            "loop_lag_p99_seconds": self.lag_p99_seconds,
            "leftover_processes": self.leftover_processes,
            "outage": self.outage,
        }

    def table(self) -> Table:
        figures = self.as_json()
        table = Table(title=f"{figures['answers']} answers, mode {figures['mode']}", title_justify="left", show_header=False)
        table.add_column(justify="left")
        table.add_column(justify="right")
        table.add_column(justify="left", style="dim")
        for name, value, note in self._rows(figures):
            table.add_row(name, value, note)
        return table

    def _rows(self, figures: dict[str, Any]) -> list[tuple[str, str, str]]:
        tokens = figures["tokens"]
        total = max(1, tokens["total"])
        rows = [(f"tokens {name}", str(tokens[name]), f"{tokens[name] / total:.0%}") for name in DECISIONS]
        rows += [
            ("tokens in all", str(tokens["total"]), ""),
            ("uploads (rounds)", str(figures["rounds"]), "each one forward pass of the LLM"),
            ("LLM passes per token", _show(figures["passes_per_token"], ".2f"), "LLM only: 1"),
            ("bytes up", f"{figures['uplink_bytes']:,}", self.uplink_source),
            ("bytes up per token", _show(figures["uplink_bytes_per_token"], ".1f"), ""),
            ("upload rate", _show(figures["upload_rate"], ".1%"), "candidates judged / answered tokens"),
            ("acceptance", _show(figures["acceptance"], ".1%"), "of the candidates that were judged"),
            ("damage", _show(figures["damage"], ".4f"), "total variation to the LLM per token, from the audits"),
        ]
        names = {"sluice": "Sluice", "llm_only": "LLM only", "slm_only": "SLM only"}
        notes = {
            "sluice": "through HTTP, broker and Redis, by this client's clock",
            "llm_only": "the target alone in one process, no HTTP, no broker",
            "slm_only": "the same edge worker with k = 0",
        }
        rows += [
            (f"tokens/s {names[name]}", f"{speed:.1f}", notes[name]) for name, speed in figures["tokens_per_second"].items()
        ]
        rows += [
            (f"loop lag p99, {name.replace('_', ' ')}", "-" if lag is None else f"{lag * 1000:.1f} ms", "limit 20 ms")
            for name, lag in self.lag_p99_seconds.items()
        ]
        return rows

    def verdict(self) -> str:
        """The speed against the LLM alone, and where it is lower: why, and what is saved instead."""
        figures = self.as_json()
        speeds = figures["tokens_per_second"]
        if not speeds["llm_only"]:
            return ""
        ratio = speeds["sluice"] / speeds["llm_only"]
        said = f"Sluice wrote {ratio:.2f} times as fast as the LLM alone"
        if ratio < 1.0:
            said += (
                ": this LLM is so small and so near that one of its tokens costs little more than a draft and a message,"
                " and Sluice is for LLMs that are slow, far or shared"
            )
        saved = 1.0 - (figures["passes_per_token"] or 0.0)
        skipped, total = figures["tokens"]["skipped"], figures["tokens"]["total"]
        said += f". Saved: {saved:.0%} of the LLM's forward passes; {skipped} of {total} tokens were never sent for judgement"
        return f"{said}; {figures['uplink_bytes_per_token'] or 0:.0f} bytes went up per token."


def _ratio(part: float, whole: float) -> float | None:
    return round(part / whole, 6) if whole else None


def _show(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
