"""A pass on slots gives what transformers' own generation gives, whatever shares the pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from services.common.lm.engine import CausalEngine
from services.common.lm.parts import decoder
from tests.lm.conftest import tiny_model

PROMPTS = ("The capital of France is", "Write one sentence about rivers, please.", "2, 4, 6, 8,")
NEW = 16

Model = tuple[PreTrainedModel, PreTrainedTokenizerBase]


def reference(model: PreTrainedModel, ids: list[int], new: int = NEW) -> list[int]:
    """Greedy continuation by transformers."""
    tokens = torch.tensor([ids])
    # An id that does not exist as the end: both sides write all tokens, past the model's own end too.
    writer: Any = model
    out = writer.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=new, do_sample=False, eos_token_id=-1)
    return [int(t) for t in out[0, len(ids) :]]


def greedy(engine: CausalEngine, rows: list[int], prompts: list[list[int]], new: int = NEW) -> list[list[int]]:
    """Greedy continuations of several rows, all in the same padded passes."""
    fed, starts = [list(p) for p in prompts], [0] * len(rows)
    answers: list[list[int]] = [[] for _ in rows]
    for _ in range(new):
        states = engine.hidden(rows, starts, fed)
        last = torch.stack([states[b, len(f) - 1] for b, f in enumerate(fed)])
        chosen = engine.logits(last).argmax(dim=-1).tolist()
        starts = [s + len(f) for s, f in zip(starts, fed, strict=True)]
        fed = [[t] for t in chosen]
        for answer, token in zip(answers, chosen, strict=True):
            answer.append(token)
    return answers


@pytest.fixture(scope="module")
def engine(smollm2: Model) -> CausalEngine:
    return CausalEngine(smollm2[0], slots=4, capacity_tokens=128)


@pytest.fixture(scope="module")
def expected(smollm2: Model) -> dict[str, tuple[list[int], list[int]]]:
    """Prompt ids and transformers' greedy answer, on a model no engine has touched."""
    model, tokenizer = smollm2
    model.set_attn_implementation("sdpa")
    ids = {p: list(tokenizer(p)["input_ids"]) for p in PROMPTS}
    return {p: (ids[p], reference(model, ids[p])) for p in PROMPTS}


def test_one_row_equals_generate(expected: dict[str, tuple[list[int], list[int]]], engine: CausalEngine) -> None:
    for ids, answer in expected.values():
        assert greedy(engine, [1], [ids]) == [answer]


@pytest.mark.parametrize("rows", [[0, 1, 2], [3, 0, 2]], ids=["adjacent slots", "scattered slots"])
def test_rows_of_different_lengths_share_a_pass(
    expected: dict[str, tuple[list[int], list[int]]], engine: CausalEngine, rows: list[int]
) -> None:
    prompts = [ids for ids, _ in expected.values()]
    assert len({len(p) for p in prompts}) == 3
    assert greedy(engine, rows, prompts) == [answer for _, answer in expected.values()]


def test_roll_back_is_a_smaller_start(expected: dict[str, tuple[list[int], list[int]]], engine: CausalEngine) -> None:
    ids, answer = expected[PROMPTS[0]]
    engine.hidden([2], [0], [ids + answer[:4] + [11, 12, 13, 14, 15]])
    start = len(ids) + 4
    states = engine.hidden([2], [start - 1], [answer[3:10]])
    assert engine.logits(states[0]).argmax(dim=-1).tolist() == answer[4:11]


def test_a_span_gives_the_states_of_single_steps(engine: CausalEngine) -> None:
    tokens = list(range(500, 512))
    whole = engine.hidden([0], [0], [tokens])
    steps = torch.cat([engine.hidden([1], [i], [[t]]) for i, t in enumerate(tokens)], dim=1)
    torch.testing.assert_close(whole, steps, atol=2e-4, rtol=1e-4)


def test_padding_and_neighbours_do_not_change_a_row(engine: CausalEngine) -> None:
    alone = engine.hidden([0], [0], [[5, 6, 7]])
    beside = engine.hidden([0, 1], [0, 0], [[5, 6, 7], list(range(40, 70))])
    torch.testing.assert_close(alone[0], beside[0, :3], atol=2e-4, rtol=1e-4)


def test_the_model_still_works_without_the_engine() -> None:
    model = tiny_model()
    tokens = torch.randint(1, 300, (2, 9))
    padded = torch.ones_like(tokens)
    padded[1, :4] = 0
    with torch.inference_mode():
        before = model(tokens).logits, model(tokens, attention_mask=padded).logits[:, 4:]
        CausalEngine(model, slots=1, capacity_tokens=8)
        after = model(tokens).logits, model(tokens, attention_mask=padded).logits[:, 4:]
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_a_pass_beyond_the_slot_is_refused() -> None:
    engine = CausalEngine(tiny_model(), slots=1, capacity_tokens=8)
    engine.hidden([0], [0], [[1] * 8])
    with pytest.raises(ValueError, match="8 tokens of its slot"):
        engine.hidden([0], [4], [[1] * 5])


TEXTS = [[5 + i for i in range(n)] for n in (40, 7, 90, 22)]
SPANS = [[9], [3, 4, 5], [11], [8, 7, 6, 5]]


@pytest.mark.parametrize("kind", ["lean", "transformers' own pass"])
@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [2, 0, 3, 1]], ids=["adjacent slots", "scattered slots"])
def test_a_pass_without_padding_gives_the_states_of_rows_alone(kind: str, rows: list[int]) -> None:
    model = tiny_model()
    if kind != "lean":
        decoder(model).register_forward_hook(lambda *_: None)
    together = CausalEngine(model, slots=4, capacity_tokens=128)
    assert (together._lean is not None) == (kind == "lean")
    together.hidden(rows, [0] * 4, TEXTS)
    found = together.hidden(rows, [len(t) for t in TEXTS], SPANS)
    alone = CausalEngine(model, slots=1, capacity_tokens=128)
    for states, text, span in zip(found, TEXTS, SPANS, strict=True):
        whole = alone.hidden([0], [0], [text + span])[0]
        torch.testing.assert_close(states[: len(span)], whole[-len(span) :], atol=1e-4, rtol=1e-4)


def test_a_long_row_adds_only_its_own_tokens_to_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = CausalEngine(tiny_model(), slots=3, capacity_tokens=128)
    seen: set[tuple[int, int]] = set()
    attend = torch.nn.functional.scaled_dot_product_attention

    def noted(query: torch.Tensor, key: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        seen.add((query.shape[2], key.shape[2]))
        return attend(query, key, *rest, **options)

    engine.hidden([0, 1, 2], [0, 0, 0], [[1] * 4, [2] * 100, [3] * 6])
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", noted)
    engine.hidden([0, 1, 2], [4, 100, 6], [[1], [2], [3, 4]])
    group = engine._group
    assert seen == {(group, 5), (group, 101), (2 * group, 8)}


def test_a_row_copied_goes_on_as_its_source() -> None:
    engine = CausalEngine(tiny_model(), slots=2, capacity_tokens=64)
    text = list(range(1, 31))
    whole = engine.hidden([0], [0], [text])
    engine.cache.copy(0, 1, 20)
    states = engine.hidden([1], [20], [text[20:]])
    torch.testing.assert_close(states[0], whole[0, 20:], atol=1e-4, rtol=1e-4)
