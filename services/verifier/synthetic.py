"""The synthetic target at work: real slots, batches and judgements, a hash instead of a network, time that is only waited for.

It is how a verifier is loaded, scaled and killed without a model (`SLUICE_VERIFIER_MODEL=synthetic`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from services.common.speculative import Judged, Row, judge
from services.common.synthetic import SyntheticLaw
from services.verifier import feed
from services.verifier.feed import Pass
from services.verifier.scheduler import Chunk, Round
from services.verifier.slots import SlotTable


class SyntheticEngine:
    """``pass_seconds`` for each pass and ``token_seconds`` for each token fed.

    ``trace``: a file that gets a line when a pass begins (its phase and number of sessions) and one when it has ended, each at
    once, so that whoever kills this process can tell what it was doing.
    """

    def __init__(
        self, law: SyntheticLaw, slots: SlotTable, *, pass_seconds: float = 0.0, token_seconds: float = 0.0, trace: str = ""
    ) -> None:
        self._law = law
        self._slots = slots
        self._pass_seconds, self._token_seconds = pass_seconds, token_seconds
        self._trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if trace else None

    def prefill(self, chunks: list[Chunk]) -> Pass:
        feeds = feed.of_chunks(self._slots, chunks)
        with self._pass("prefill", feeds):
            return feed.done(feeds)

    def verify(self, rounds: list[Round]) -> tuple[list[Judged], Pass]:
        feeds = feed.of_rounds(self._slots, rounds)
        with self._pass("verify", feeds):
            return [self._judge(item) for item in rounds], feed.done(feeds)

    def forget(self, sessions: list[bytes]) -> None:
        for session in sessions:
            self._slots.drop(session)

    def _judge(self, item: Round) -> Judged:
        ids = item.base + [t.d for t in item.span]
        first = len(item.base)
        y: list[Row] = [self._law(ids[:end]).astype(np.float32) for end in range(first, first + item.rows)]
        return judge(item.span, y, seed=item.seed, start=first, round_=item.number, want_bonus=item.want_bonus)

    @contextmanager
    def _pass(self, phase: str, feeds: list[feed.Feed]) -> Iterator[None]:
        self._note(f"{phase} {len(feeds)}\n")
        time.sleep(self._pass_seconds + self._token_seconds * sum(len(f.tokens) for f in feeds))
        yield
        self._note("end\n")

    def _note(self, line: str) -> None:
        if self._trace is not None:
            os.write(self._trace, line.encode())
