"""The target model at work: prefixes into slots, and spans into judgements. Synchronous, for one thread.

Several sessions of different lengths share one padded forward pass. What a session needs fed is whatever of its base is not
in its slot (at least the last id, whose logits judge the first span token), then the span. Roll-back, correction and
bonus need no operation of their own: they are ids that the slot does not hold yet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from services.common.lm.engine import CausalEngine
from services.common.speculative import Judged, Row, judge
from services.common.warp import distribution
from services.verifier.scheduler import Chunk, Round
from services.verifier.slots import SlotTable


@dataclass(frozen=True)
class Pass:
    """Cost of one forward pass: ``sessions`` rows, ``tokens`` fed without padding."""

    sessions: int
    tokens: int


class TargetEngine:
    """``vocabulary``: true entries of a logit row; what a model pads behind them is cut off before anything is drawn."""

    def __init__(self, engine: CausalEngine, slots: SlotTable, *, vocabulary: int) -> None:
        self._engine = engine
        self._slots = slots
        self._vocabulary = vocabulary

    def prefill(self, chunks: list[Chunk]) -> Pass:
        """Make the ids of each chunk valid in the slot of its session."""
        tokens = []
        rows, starts = [], []
        keep = {c.session for c in chunks}
        for chunk in chunks:
            have = min(self._slots.valid(chunk.session, chunk.ids), len(chunk.ids) - 1)
            slot = self._slots.take(chunk.session, keep)
            slot.ids = chunk.ids[:have]
            rows.append(slot.row)
            starts.append(have)
            tokens.append(chunk.ids[have:])
        self._engine.hidden(rows, starts, tokens)
        for chunk in chunks:
            self._slots.take(chunk.session, keep).ids = list(chunk.ids)
        return Pass(len(chunks), sum(map(len, tokens)))

    def verify(self, rounds: list[Round]) -> tuple[list[Judged], Pass]:
        """Judge the rounds in one pass; the sessions must be distinct. A round's answer does not depend on the others."""
        tokens: list[list[int]] = []
        rows, starts = [], []
        keep = {r.session for r in rounds}
        for item in rounds:
            start = min(self._slots.valid(item.session, item.base), len(item.base) - 1)
            slot = self._slots.take(item.session, keep)
            slot.ids = item.base[:start]
            rows.append(slot.row)
            starts.append(start)
            tokens.append((item.base + [t.d for t in item.span])[start : len(item.base) + item.rows - 1])
        states = self._engine.hidden(rows, starts, tokens)
        for item, start, fed in zip(rounds, starts, tokens, strict=True):
            self._slots.take(item.session, keep).ids = item.base[:start] + fed
        wanted = []
        for b, (item, start) in enumerate(zip(rounds, starts, strict=True)):
            first = len(item.base) - 1 - start
            wanted.append(states[b, first : first + item.rows])
        logits = self._engine.logits(torch.cat(wanted))[:, : self._vocabulary]
        judged, at = [], 0
        for item in rounds:
            judged.append(self._judge(item, logits[at : at + item.rows]))
            at += item.rows
        return judged, Pass(len(rounds), sum(map(len, tokens)))

    def forget(self, sessions: list[bytes]) -> None:
        """After a failed pass: what the slots of these sessions hold is unknown."""
        for session in sessions:
            self._slots.release(session)

    @staticmethod
    def _judge(item: Round, logits: torch.Tensor) -> Judged:
        y: list[Row] = list(distribution(logits, item.sampling).cpu().numpy())
        if not all(np.isfinite(row).all() for row in y):
            raise ValueError("the target's logits are not finite")
        return judge(item.span, y, seed=item.seed, start=len(item.base), round_=item.number, want_bonus=item.want_bonus)
