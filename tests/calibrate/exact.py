"""A small exact engine: tables for both models, the real session loop between them.

Kind 0 is easy: both models agree on every token, which the draft is sure of. In kinds 1 to 4 the draft ends the answer at once
where the target would go on: surely (``u`` = 0.05) in kind 1, with growing uncertainty up to kind 4. Skipped, that one token is
an answer with a damage of about 0.9.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from services.calibrate.record import Recorder
from services.calibrate.run import Plan
from services.common.calibration.files import Model, Policy
from services.common.rng import Floats
from services.common.sampling import Sampling
from services.edge_worker.draft import Step, StepRequest
from services.edge_worker.fakes import LoopbackClient, TableDrafter
from services.pair.rows import Row, SoloRow

VOCABULARY = 6
END = 5
UNSURE = {1: 0.05, 2: 0.1, 3: 0.2, 4: 0.4}
GRID = np.array([0.02, 0.06, 0.12, 0.25, 0.5])
MAX_TOKENS = 5
POLICY = Policy(signal="one_minus_max", k=2, span_tokens=8, wait_tokens=4, risk=0.8, x_entries=VOCABULARY)


def _row(token: int, p: float) -> Floats:
    row = np.full(VOCABULARY, (1.0 - p) / (VOCABULARY - 1))
    row[token] = p
    return row


AGREED = [_row(token, 0.995) for token in range(VOCABULARY - 1)]
TOO_EARLY = {kind: _row(END, 1.0 - u) for kind, u in UNSURE.items()}
GOES_ON = _row(0, 0.9)


def draft_law(prefix: Sequence[int]) -> Floats:
    first = len(prefix) == 2
    return TOO_EARLY[prefix[0]] if first and prefix[0] in TOO_EARLY else AGREED[len(prefix) % (VOCABULARY - 1)]


def target_law(prefix: Sequence[int]) -> Floats:
    first = len(prefix) == 2
    return GOES_ON if first and prefix[0] in TOO_EARLY else AGREED[len(prefix) % (VOCABULARY - 1)]


def damage_of(kind: int) -> float:
    """Expected damage of an answer of this kind whose first token is skipped, by hand: the other tokens do none."""
    x, y = TOO_EARLY[kind], GOES_ON
    others = float(np.maximum(0.0, x[:END] - y[:END]).sum()) / MAX_TOKENS
    return float(x[END] - y[END]) + others


class Drafter(TableDrafter):
    """With all signals at hand."""

    async def step(self, request: StepRequest) -> Step:
        step = await super().step(request)
        p = step.x.counts / step.x.counts.sum()
        second = float(np.sort(p)[-2]) if len(p) > 1 else 0.0
        signals = {
            "one_minus_max": step.u,
            "entropy": min(1.0, float(-(p * np.log(p)).sum() / np.log(VOCABULARY))),
            "margin": min(1.0, 1.0 - float(p.max()) + second),
        }
        return replace(step, signals=signals)


def row() -> SoloRow[LoopbackClient]:
    return SoloRow(lambda *_: Drafter(draft_law, slots=1), LoopbackClient(target_law))


def recorder(seed: int, **changes: Any) -> Recorder:
    values: dict[str, Any] = {
        "policy": POLICY,
        "score": lambda signals: signals["one_minus_max"],
        "sampling": Sampling(),
        "max_tokens": MAX_TOKENS,
        "end_ids": {END},
        "seed": seed,
    }
    return Recorder(row(), **{**values, **changes})


def prompts(count: int) -> list[list[int]]:
    """Prompts of two ids: the kind, shares 88.5, 1.5, 2, 3 and 5 % of ``count``, and a token that means nothing."""
    kinds = [kind for kind, share in ((1, 0.015), (2, 0.02), (3, 0.03), (4, 0.05)) for _ in range(round(share * count))]
    return [[kind, 0] for kind in [0] * (count - len(kinds)) + kinds]


class Exact:
    """``Pair``."""

    def __init__(self, prompts: Sequence[Sequence[int]], rows: int) -> None:
        self.rows: Sequence[Row[LoopbackClient]] = [row() for _ in range(rows)]
        self.prompts = prompts
        self.end_ids = frozenset({END})
        self.draft = self.target = Model(reference="exact", revision="1", weights="table")
        self.tokenizer_hash, self.template_hash = "tables", "no template"

    def text(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))

    def close(self) -> None:
        """Nothing to end."""


def subject(count: int, rows: int = 1) -> Exact:
    """As many prompts of each kind."""
    return Exact([[n % 5, 0] for n in range(count)], rows)


def plan(work: Path, **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "work": work,
        "alphas": (0.03,),
        "policy": POLICY,
        "sampling": Sampling(),
        "max_tokens": MAX_TOKENS,
        "grid": 5,
    }
    return Plan(**{**values, **changes})
