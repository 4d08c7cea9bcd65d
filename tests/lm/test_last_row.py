"""The attention of one layer's last row, beside the fused kernel, is the model's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GemmaConfig, GemmaForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from services.common.lm import attention, parts
from services.common.lm.attention import LastRow
from services.common.lm.engine import CausalEngine
from tests.lm.conftest import tiny_model

IDS = [7, 3, 250, 9, 9, 41, 300, 12, 5]
SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}


def qwen3() -> PreTrainedModel:
    torch.manual_seed(3)
    return Qwen3ForCausalLM(Qwen3Config(**SIZES))


def gemma() -> PreTrainedModel:
    torch.manual_seed(4)
    return GemmaForCausalLM(GemmaConfig(**SIZES))


def llama() -> PreTrainedModel:
    return tiny_model(seed=5)


MODELS = {"lean": llama, "normalised queries": qwen3, "transformers' own pass": gemma}


def own_rows(model: PreTrainedModel, ids: list[int], layer: int) -> torch.Tensor:
    """By the slow kernel, which gives weights: `[len(ids), len(ids)]`, heads averaged."""
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        out = model(input_ids=torch.tensor([ids]), output_attentions=True)
    model.set_attn_implementation("sdpa")
    rows: torch.Tensor = out.attentions[layer][0].mean(dim=0)
    return rows


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("layer", [0, 1])
def test_the_row_is_the_model_s(kind: str, layer: int) -> None:
    model = parts.frozen(MODELS[kind]())
    expected = own_rows(model, IDS, layer)
    engine = CausalEngine(model, slots=2, capacity_tokens=32)
    whole, tail = LastRow(layer), LastRow(layer)
    plain = engine.hidden([0], [0], [IDS])
    torch.testing.assert_close(engine.hidden([0], [0], [IDS], whole), plain)
    engine.hidden([1], [0], [IDS[:-1]])
    engine.hidden([1], [len(IDS) - 1], [IDS[-1:]], tail)
    for watch in (whole, tail):
        assert watch.weights is not None
        torch.testing.assert_close(watch.weights[0], expected[-1], atol=1e-5, rtol=1e-4)


def test_rows_of_different_lengths_end_where_they_end() -> None:
    model = parts.frozen(llama())
    expected = own_rows(model, IDS, 1)
    watch = LastRow(1)
    CausalEngine(model, slots=3, capacity_tokens=32).hidden([2, 0, 1], [0, 0, 0], [IDS[:4], IDS, IDS[:1]], watch)
    assert watch.weights is not None
    for row, length in zip(watch.weights, (4, len(IDS), 1), strict=True):
        torch.testing.assert_close(row[:length], expected[length - 1, :length], atol=1e-5, rtol=1e-4)
        assert not row[length:].any()


@pytest.mark.parametrize("kind", MODELS)
def test_a_layer_that_is_not_there_is_said(kind: str) -> None:
    engine = CausalEngine(parts.frozen(MODELS[kind]()), slots=1, capacity_tokens=32)
    with pytest.raises(ValueError, match="layer 2 cannot be read"):
        engine.hidden([0], [0], [IDS], LastRow(2))


@pytest.mark.parametrize("kind", MODELS)
def test_nothing_is_computed_when_not_asked(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(attention.LastRow, "take", lambda self, *_: taken.append(self.layer))
    engine = CausalEngine(parts.frozen(MODELS[kind]()), slots=1, capacity_tokens=32)
    engine.hidden([0], [0], [IDS])
    assert taken == []
    with pytest.raises(ValueError, match="cannot be read"):
        engine.hidden([0], [0], [IDS], LastRow(1))
    assert taken == [1]
