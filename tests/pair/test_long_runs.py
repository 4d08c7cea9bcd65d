"""What calibration and evaluation write, with runs of skipped tokens longer than an upload may be: all of them are audited."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from services.calibrate.record import Job, Recorder
from services.common.calibration.files import Model, Policy
from services.common.codec import MAX_SPAN_TOKENS
from services.common.rng import Floats
from services.common.sampling import Sampling
from services.common.synthetic import DRAFT_NOISE, VOCABULARY, SyntheticLaw
from services.edge_worker.fakes import LoopbackClient, TableDrafter
from services.edge_worker.gate import Gate
from services.edge_worker.signals import Signal
from services.evaluate.methods import Rule
from services.evaluate.write import Asked, write
from services.pair.judge import Direct, Judge
from services.pair.rows import Row, SoloRow
from services.verifier.slots import SlotTable
from services.verifier.synthetic import SyntheticEngine
from tests.calibrate.exact import Drafter

TOKENS = 300
UNSURE_AT = MAX_SPAN_TOKENS + 20  # tokens of the text


def draft_law(prefix: Sequence[int]) -> Floats:
    """One uncertain token, far behind."""
    return np.array([0.3, 0.3, 0.2, 0.2] if len(prefix) == UNSURE_AT else [0.1, 0.7, 0.1, 0.1])


def target_law(prefix: Sequence[int]) -> Floats:
    return np.array([0.2, 0.6, 0.1, 0.1])


async def test_calibration_audits_every_skipped_token() -> None:
    client = LoopbackClient(target_law)
    recorder = Recorder(
        SoloRow(lambda *_: Drafter(draft_law, slots=1), client),
        policy=Policy(signal="one_minus_max", k=2, span_tokens=48, wait_tokens=12, risk=0.8, x_entries=4),
        score=lambda signals: signals["one_minus_max"],
        sampling=Sampling(),
        max_tokens=TOKENS,
        end_ids=(),
        seed=1,
    )
    answer = await recorder.write(Job(0, 0.5, [0, 0]))
    asked = [any(t.x is not None for t in batch.tokens()) for batch in client.batches]
    assert asked[:2] == [False, True]
    assert answer.skipped > TOKENS - 5
    assert sum(token.flagged for token in answer.tokens) == 1


class Synthetic:
    """``Pair`` without models: tables over the verifier's own engine."""

    def __init__(self) -> None:
        judge = Judge(Direct(SyntheticEngine(SyntheticLaw(), SlotTable(2))))
        self.rows: Sequence[Row[Judge]] = [
            SoloRow(lambda *_: TableDrafter(SyntheticLaw(noise=DRAFT_NOISE), slots=1, entries=32), judge)
        ]
        self.prompts: Sequence[Sequence[int]] = [[1, 2, 3]] * 3
        self.end_ids: frozenset[int] = frozenset()
        self.draft = self.target = Model(reference="synthetic", revision="1", weights="hash")
        self.tokenizer_hash, self.template_hash = "synthetic", "no template"

    def text(self, ids: Sequence[int]) -> str:
        assert max(ids) < VOCABULARY
        return " ".join(map(str, ids))

    def close(self) -> None:
        """Nothing to end."""


@pytest.mark.parametrize("asks", [True, False], ids=["now and then", "never"])
async def test_evaluation_audits_every_skipped_token(asks: bool) -> None:
    """``write`` itself refuses an answer with a token that was not audited."""
    pair = Synthetic()
    gate = Gate(Signal.ONE_MINUS_MAX, 0.5, random_rate=1 / 120 if asks else 0.0)
    rule, asked = Rule(gate, k=2, span_tokens=48, wait_tokens=12, risk=1.0, asks=asks), Asked(Sampling(), TOKENS, 4)
    ahead = 0
    for prompt in range(len(pair.prompts)):
        record = await write(pair, pair.rows[0], asked, prompt, "random", rule)
        assert record.answered == TOKENS
        assert record.audit_sum > 0.0
        ahead += sum(exchange.candidates == 0 for exchange in record.exchanges)
    assert (ahead > 0) == asks
