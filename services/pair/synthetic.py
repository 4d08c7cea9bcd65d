"""The synthetic pair, which needs no files; bytes are tokens. Its only signal is ``one_minus_max``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.common import synthetic
from services.common.calibration.files import Model, text_hash
from services.common.calibration.predictor import Predictor
from services.common.lm.errors import ModelError
from services.common.rng import Floats
from services.common.speculative import Judged, Row
from services.common.synthetic import SyntheticLaw
from services.edge_worker.draft import Drafter
from services.edge_worker.fakes import TableDrafter
from services.edge_worker.signals import Signal
from services.pair.judge import Direct, Judge
from services.pair.rows import SoloRow
from services.verifier.feed import Pass
from services.verifier.scheduler import Round
from services.verifier.slots import SlotTable
from services.verifier.synthetic import SyntheticEngine


class Told(Direct):
    """With the target's laws, which are those of the engine."""

    def __init__(self, law: SyntheticLaw) -> None:
        super().__init__(SyntheticEngine(law, SlotTable(1)))
        self._law = law

    async def verify(self, item: Round) -> tuple[Judged, Pass, Sequence[Row]]:
        judged, cost, _ = await super().verify(item)
        ids, first = [*item.base, *(t.d for t in item.span)], len(item.base)
        return judged, cost, [self._law(ids[:end]).astype(np.float32) for end in range(first, first + item.rows)]


class SyntheticPair:
    """``rows.Pair``. Raises ``ModelError``."""

    def __init__(self, draft: str, target: str, texts: Sequence[str], *, entries: int, parallel: int = 1) -> None:
        try:
            seeds = [synthetic.seed_of(name) for name in (draft, target)]
        except ValueError as error:
            raise ModelError(str(error)) from error
        self._law = SyntheticLaw(seeds[0], synthetic.DRAFT_NOISE)
        self._entries = entries
        self.rows: Sequence[SoloRow[Judge]] = [
            SoloRow(self._drafter, Judge(Told(SyntheticLaw(seeds[1])))) for _ in range(parallel)
        ]
        self.prompts: Sequence[Sequence[int]] = [list(text.encode()) for text in texts]
        self.end_ids: frozenset[int] = frozenset()
        self.draft, self.target = (Model(reference=name, revision=name, weights="hash") for name in (draft, target))
        self.tokenizer_hash, self.template_hash = synthetic.TOKENIZER_HASH, text_hash("")

    def text(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode("latin-1")

    def close(self) -> None:
        """Nothing to end."""

    def _drafter(self, signal: Signal, predictor: Predictor | None) -> Drafter:
        if predictor is not None or signal is not Signal.ONE_MINUS_MAX:
            raise ModelError("synthetic models know one signal: --signal one_minus_max, and no calibrated predictor")
        return TableDrafter(self._law, slots=1, entries=self._entries, attention=self._attention)

    def _attention(self, prefix: Sequence[int]) -> Floats:
        weights: Floats = self._law(prefix)[np.arange(len(prefix)) % synthetic.VOCABULARY]
        weights /= weights.sum()
        return weights
