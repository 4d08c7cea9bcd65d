"""Answers written at once are those written one after the other, and cost what a verifier of their own would charge."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
import torch

from services.common.lm.attention import LastRow
from services.common.lm.engine import CausalEngine
from services.common.messages import Mode
from services.common.sampling import Sampling
from services.edge_worker.draft import DraftEngine
from services.edge_worker.gate import Gate
from services.edge_worker.signals import Importance, Signal
from services.evaluate.methods import Rule
from services.evaluate.trace import Record
from services.evaluate.write import Asked, alone, write
from services.pair.drafter import DRAFT, run
from services.pair.gather import Gather
from services.pair.models import LoadedRow
from services.pair.recall import Recall
from services.pair.rows import spread
from services.pair.target import PREFILL, VERIFY, Places, Requests, TellingEngine
from tests.end_to_end import tiny

SMALL, LARGE = tiny.model(1), tiny.model(2)
PROMPTS = ([1, 2, 3], [4], [0, 0, 1, 2, 3, 4, 1], [2, 2])
RULES = {
    "always": Rule(Gate(Signal.ONE_MINUS_MAX, 0.5), 1, 1024, 1024, 1.0, gamma=0.0),
    "gate": Rule(Gate(Signal.ENTROPY, 0.8), 2, 8, 4, 0.9),
    "importance": Rule(Gate(Signal.ONE_MINUS_MAX, 0.4, importance=Importance.RECEIVED), 2, 8, 4, 0.9),
    "lossless": Rule(Gate(Signal.ONE_MINUS_MAX, 0.5), 2, 8, 4, 0.9, mode=Mode.LOSSLESS),
}


class TinyPair:
    """``rows.Pair`` of two tiny random models."""

    def __init__(self, parallel: int, prompts: Sequence[Sequence[int]] = PROMPTS) -> None:
        kind = CausalEngine if parallel == 1 else Recall
        draft = DraftEngine(
            kind(SMALL, slots=parallel, capacity_tokens=tiny.CAPACITY), vocabulary=tiny.VOCABULARY, entries=tiny.VOCABULARY
        )
        places = Places()
        self.target: CausalEngine = kind(LARGE, slots=parallel, capacity_tokens=tiny.CAPACITY)
        engine = TellingEngine(self.target, places, vocabulary=tiny.VOCABULARY)
        requests = Requests(engine, places)
        self._gather = Gather({DRAFT: lambda a: run(draft, a), PREFILL: requests.prefill, VERIFY: requests.verify})
        self.rows = [LoadedRow(self._gather, draft, engine, places, n) for n in range(parallel)]
        self.prompts = prompts
        self.end_ids = frozenset({0})
        self.tokenizer_hash = self.template_hash = ""

    def text(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))

    def close(self) -> None:
        self._gather.close()


def written(pair: TinyPair, sampling: Sampling, rules: Sequence[str] = tuple(RULES)) -> dict[tuple[str, int], Record]:
    """Every prompt with the large model alone and by every rule."""
    asked, found = Asked(sampling, 12, 7), {}

    async def work(row: LoadedRow, prompt: int) -> None:
        found[("llm", prompt)] = await alone(pair, row, asked, prompt)  # type: ignore[arg-type]
        for name in rules:
            found[(name, prompt)] = await write(pair, row, asked, prompt, name, RULES[name])  # type: ignore[arg-type]

    def worker(row: LoadedRow):  # type: ignore[no-untyped-def]
        return lambda prompt: work(row, prompt)

    try:
        asyncio.run(spread(range(len(pair.prompts)), [worker(row) for row in pair.rows]))
    finally:
        pair.close()
    return found


@pytest.mark.parametrize("sampling", [Sampling(temperature=0.0), Sampling()], ids=["greedy", "sampled"])
def test_written_at_once_or_one_by_one_is_the_same(sampling: Sampling) -> None:
    """Texts, judgements and costs; float32 models, so that rounding does not depend on the batch."""
    one, three = written(TinyPair(1), sampling), written(TinyPair(3), sampling)
    assert one.keys() == three.keys()
    assert len(one) == len(PROMPTS) * (len(RULES) + 1)
    for key, record in one.items():
        other = three[key]
        assert (record.text, record.exchanges, record.prompt_fed) == (other.text, other.exchanges, other.prompt_fed), key
        assert record.audit_sum == pytest.approx(other.audit_sum, abs=1e-4)
        assert record.measured_seconds is not None
        assert other.measured_seconds is None
    assert any(r.audit_sum > 0.0 for r in one.values())
    assert any(len(r.exchanges) > 1 for r in one.values())


def test_greedy_answers_that_are_judged_throughout_are_the_large_models_and_cost_no_pass_again() -> None:
    pair = TinyPair(2)
    found = written(pair, Sampling(temperature=0.0), ("always", "lossless"))
    for prompt in range(len(PROMPTS)):
        assert found[("always", prompt)].text == found[("lossless", prompt)].text == found[("llm", prompt)].text
    target = pair.target
    assert isinstance(target, Recall)
    charged = sum(record.prompt_fed + record.fed for record in found.values())
    assert target.fed_tokens + target.recalled_tokens >= charged
    assert target.fed_tokens < 0.75 * charged


def test_recalled_states_are_those_of_a_pass() -> None:
    """Also after roll-backs, in rows of different lengths, and with attention watched."""
    recall, plain = (kind(LARGE, slots=3, capacity_tokens=32) for kind in (Recall, CausalEngine))
    steps = [
        ([0, 1, 2], [0, 0, 0], [[1, 2, 3, 4], [1], [2, 2, 2]]),
        ([0, 2], [2, 1], [[3, 4], [2, 4, 4]]),  # the first as before, the second otherwise
        ([2, 0, 1], [0, 4, 1], [[2, 2, 4, 4, 1], [1], [3, 3, 3, 3, 3, 3, 3]]),
        ([0, 1], [1, 0], [[0], [0]]),  # a draft that is refused
        ([0, 1], [1, 0], [[2, 3, 4, 1, 0], [1, 3, 3]]),
    ]
    for watched in (False, True):
        for rows, starts, tokens in steps:
            seen = [LastRow(0) if watched else None for _ in range(2)]
            got = recall.hidden(rows, starts, tokens, seen[0])
            for b, row in enumerate(rows):
                alone = LastRow(0) if watched else None
                wanted = plain.hidden([row], [starts[b]], [tokens[b]], alone)[0]
                torch.testing.assert_close(got[b, : len(tokens[b])], wanted, rtol=1e-4, atol=1e-5)
                if alone is not None and alone.weights is not None and seen[0] is not None and seen[0].weights is not None:
                    end = starts[b] + len(tokens[b])
                    torch.testing.assert_close(seen[0].weights[b, :end], alone.weights[0], rtol=1e-4, atol=1e-5)
    assert isinstance(recall, Recall)
    assert recall.recalled_tokens > 0
    with pytest.raises(RuntimeError, match="beyond"):
        recall.hidden([1], [31], [[1]])


def test_an_error_of_a_pass_reaches_everyone_who_waits_for_it() -> None:
    def broken(requests: Sequence[object]) -> list[object]:
        raise ValueError(f"{len(requests)} at once")

    async def both() -> list[str]:
        gather = Gather({"a": broken})
        try:
            with gather.writing(0), gather.writing(1):
                outcomes = await asyncio.gather(*(gather.ask("a", n, n) for n in range(2)), return_exceptions=True)
                return [str(outcome) for outcome in outcomes]
        finally:
            gather.close()

    assert asyncio.run(both()) == ["2 at once", "2 at once"]


def test_a_row_that_stops_writing_lets_the_others_go_on() -> None:
    async def work() -> list[int]:
        gather = Gather({"double": lambda requests: [2 * r for r in requests]})
        try:
            with gather.writing(0):
                with gather.writing(1):
                    waiting = asyncio.create_task(gather.ask("double", 0, 4))
                    await asyncio.sleep(0)
                    assert not waiting.done()  # row 1 may still ask
                return [await waiting]
        finally:
            gather.close()

    assert asyncio.run(work()) == [8]
