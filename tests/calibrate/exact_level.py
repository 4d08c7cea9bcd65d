"""A small exact engine of longer answers, for the answer-level rule.

The first id of a prompt is its kind. *Fair* (0 to 4): both models agree, also where they are unsure; the plain rule asks there
in vain. *Open* (5 to 9): mostly unsure, and the target often of another mind. *Late* (10): fair for the first half, open after
it. *Sly* (11): as sure as a fair one, yet the target would write something else: no signal tells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.calibrate.record import Recorder
from services.common.calibration.answer_level import AnswerRule
from services.common.calibration.files import Policy
from services.common.rng import Floats
from services.common.sampling import Sampling
from services.edge_worker.fakes import LoopbackClient
from services.pair.rows import SoloRow
from tests.calibrate.exact import VOCABULARY, Drafter, Exact

MAX_TOKENS = 12
DECIDE = 4
LATE, SLY = 10, 11
SHARES = {LATE: 0.1, SLY: 0.02}
POLICY = Policy(signal="one_minus_max", k=4, span_tokens=20, wait_tokens=6, risk=0.9, x_entries=VOCABULARY)


def _row(token: int, p: float) -> Floats:
    row = np.full(VOCABULARY, (1.0 - p) / (VOCABULARY - 1))
    row[token] = p
    return row


def _fair(prefix: Sequence[int]) -> bool:
    kind = prefix[0]
    return kind < 5 or (kind == LATE and len(prefix) < 2 + MAX_TOKENS // 2)


def _place(prefix: Sequence[int]) -> int:
    return (3 * len(prefix) + prefix[-1]) % VOCABULARY


def draft_law(prefix: Sequence[int]) -> Floats:
    """Every third place of a fair answer is unsure, two of three of an open one, though none as unsure as those."""
    kind, turn = prefix[0], len(prefix) % 3
    if _fair(prefix) or kind == SLY:
        return _row(_place(prefix), 0.35 if turn == 0 else 0.97 - 0.01 * (kind % 5))
    return _row(_place(prefix), 0.57 - 0.03 * (kind % 5) if turn else 0.9)


def target_law(prefix: Sequence[int]) -> Floats:
    if _fair(prefix):
        return draft_law(prefix)
    if prefix[0] == SLY:
        return _row((_place(prefix) + 1) % VOCABULARY, 0.9)
    return 0.6 * draft_law(prefix) + 0.4 * _row((_place(prefix) + 2) % VOCABULARY, 0.95)


def row() -> SoloRow[LoopbackClient]:
    return SoloRow(lambda *_: Drafter(draft_law, slots=1), LoopbackClient(target_law))


def prompts(count: int) -> list[list[int]]:
    """Two ids each: the kind, and a token that means nothing. A tenth late, a twentieth sly, the rest half fair, half open."""
    rare = [kind for kind, share in SHARES.items() for _ in range(round(share * count))]
    return [[kind, 0] for kind in [n % 10 for n in range(count - len(rare))] + rare]


def recorder(seed: int, level: AnswerRule | None) -> Recorder:
    return Recorder(
        row(),
        policy=POLICY.model_copy(update={"answer_level": level}),
        score=lambda signals: signals["one_minus_max"],
        sampling=Sampling(),
        max_tokens=MAX_TOKENS,
        end_ids={VOCABULARY},
        seed=seed,
    )


def subject(count: int) -> Exact:
    found = Exact(prompts(count), 0)
    found.rows = [row()]
    return found
