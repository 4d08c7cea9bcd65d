"""The figures of a load, whole and by phase. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from services.loadgen.answer import DECISIONS, Answer, Outcome
from services.loadgen.arrivals import Schedule

LATE_SECONDS = 0.05  # a request that begins later than that is counted as late
QUANTILES = (50, 90, 99)
MOST_ERRORS = 10  # kinds of them that are named
BIN_SECONDS = 1.0


def summarise(answers: Sequence[Answer], schedule: Schedule, ended: float) -> dict[str, Any]:
    """``ended``: second at which the load was over. Tokens a second count from the begin to there."""
    phases = []
    for number, phase in enumerate(schedule.phases):
        mine = [a for a in answers if schedule.number(a.due) == number]
        phases.append({"from": phase.at, "to": schedule.end(number), "rate": phase.rate, **figures(mine)})
    tokens = _tokens(answers)
    late = [a.late_seconds for a in answers if a.late_seconds > LATE_SECONDS]
    errors = Counter(a.error for a in answers if a.error).most_common(MOST_ERRORS)
    return {
        **figures(answers),
        "tokens": tokens,
        "tokens_per_second": tokens["total"] / ended if ended > 0.0 else 0.0,
        "late_starts": {"count": len(late), "max_seconds": max(late, default=0.0)},
        "errors": dict(errors),
        "phases": phases,
        "timeline": timeline(answers, ended),
    }


def figures(answers: Sequence[Answer]) -> dict[str, Any]:
    """Requests by outcome, and quantiles of the times; those of the first token also of answers that broke off."""
    ended = Counter(a.outcome for a in answers)
    complete = [a for a in answers if a.outcome is Outcome.COMPLETE]
    return {
        "answers": {
            "offered": len(answers),
            "complete": ended[Outcome.COMPLETE],
            "refused": ended[Outcome.REFUSED],
            "failed": ended[Outcome.FAILED],
            "unfinished": ended[Outcome.RUNNING],
        },
        "seconds": {
            "first_token": quantiles(a.first_token_seconds for a in answers),
            "per_token": quantiles(a.token_seconds for a in complete),
            "answer": quantiles(None if a.ended is None else a.ended - a.due for a in complete),
        },
    }


def _tokens(answers: Sequence[Answer]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for answer in answers:
        counts.update(answer.decisions)
    return {**{name: counts[name] for name in DECISIONS}, "total": counts.total()}


def quantiles(values: Iterable[float | None]) -> dict[str, float | None]:
    """``p50`` and so on; ``None`` without any value."""
    found = [value for value in values if value is not None]
    if not found:
        return {f"p{q}": None for q in QUANTILES}
    return {f"p{q}": round(float(np.percentile(found, q)), 6) for q in QUANTILES}


def timeline(answers: Sequence[Answer], ended: float) -> dict[str, Any]:
    """By second: requests due, requests refused or failed, tokens shown, and answers that ran at its begin."""
    bins = max(1, int(np.ceil(ended / BIN_SECONDS)))

    def counted(times: Iterable[float]) -> list[int]:
        where = np.array([min(bins - 1, int(at / BIN_SECONDS)) for at in times], dtype=np.int64)
        return [int(n) for n in np.bincount(where, minlength=bins)]

    lost = [a for a in answers if a.outcome in (Outcome.REFUSED, Outcome.FAILED)]
    begun = np.sort([a.begun for a in answers])
    over = np.sort([a.ended for a in answers if a.ended is not None])
    starts = np.arange(bins) * BIN_SECONDS
    running = np.searchsorted(begun, starts, side="right") - np.searchsorted(over, starts, side="right")
    return {
        "bin_seconds": BIN_SECONDS,
        "due": counted(a.due for a in answers),
        "lost": counted(a.due for a in lost),
        "tokens": counted(at for a in answers for at in a.token_at),
        "running": [int(n) for n in running],
    }
