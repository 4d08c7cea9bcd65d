"""Every weight format computes what its stored numbers say, on layers and on whole models."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from services.common.lm import choose, int4, linear, parts
from services.common.lm.engine import CausalEngine
from services.common.lm.errors import ModelError
from tests.lm.conftest import tiny_model

ROWS = (1, 3, 17, 80)


def layer(in_features: int = 128, out_features: int = 96, bias: bool = True) -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(in_features, out_features, bias=bias).bfloat16()


def agree(found: torch.Tensor, wanted: torch.Tensor, share: float = 0.01) -> bool:
    """Equal up to bfloat16's rounding of the largest entry."""
    return bool((found.float() - wanted.float()).abs().max() <= share * wanted.float().abs().max())


def runnable(weights: str) -> str:
    if not linear.available(weights):
        pytest.skip(f"{weights} does not run on this processor")
    return weights


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", ROWS)
def test_packed_is_plain_bfloat16(rows: int, bias: bool) -> None:
    runnable(linear.PACKED)
    plain, x = layer(bias=bias), torch.randn(2, rows, 128).bfloat16()
    with torch.inference_mode():
        assert agree(linear.PackedLinear(plain)(x), plain(x))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", ROWS)
def test_int8_is_its_dequantised_weight(rows: int, bias: bool) -> None:
    runnable(linear.INT8)
    plain, x = layer(bias=bias), torch.randn(rows, 128).bfloat16()
    with torch.inference_mode():
        held = linear.Int8Linear(plain)
        dense = held.q.float() * held.scale.float().unsqueeze(1)
        assert (dense - plain.weight.float()).abs().max() <= 0.51 * held.scale.float().max()
        assert agree(held(x), nn.functional.linear(x.float(), dense, None if not bias else plain.bias.float()))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", ROWS)
def test_int4_is_its_dequantised_weight(rows: int, bias: bool) -> None:
    runnable(linear.INT4)
    plain, x = layer(bias=bias), torch.randn(rows, 128).bfloat16()
    with torch.inference_mode():
        dense = int4.dequantize(*int4.quantize(plain.weight))
        assert agree(
            linear.Int4Linear(plain)(x), nn.functional.linear(x.float(), dense, None if not bias else plain.bias.float())
        )


def test_stored_four_bits_are_used_as_they_are() -> None:
    runnable(linear.INT4)
    plain = layer(bias=False)
    q, scales_zeros = int4.quantize(torch.randn(96, 128))
    held: Any = plain
    held.int4 = (int4.pack(q), scales_zeros)  # another weight on purpose: what is stored must win
    x = torch.randn(2, 128).bfloat16()
    with torch.inference_mode():
        assert agree(linear.Int4Linear(plain)(x), x.float() @ int4.dequantize(q, scales_zeros).T)


@pytest.mark.parametrize(("weights", "shape"), [("int8", (100, 64)), ("int4", (100, 64)), ("int4", (64, 30))])
def test_shapes_the_kernels_cannot_take_stay_plain(weights: str, shape: tuple[int, int]) -> None:
    assert not linear.fits(layer(*shape), weights)
    assert linear.fits(layer(128, 96), weights)


@pytest.mark.parametrize("weights", [linear.PACKED, linear.INT8, linear.INT4])
def test_a_converted_model_with_biases_runs(weights: str) -> None:
    runnable(weights)
    model = tiny_model(bias=True).bfloat16()
    wanted = copy.deepcopy(model)
    if weights != linear.PACKED:
        for module in wanted.modules():
            if type(module) is nn.Linear:
                held = linear.Int8Linear(module)
                byte = held.q.float() * held.scale.float().unsqueeze(1)
                four = int4.dequantize(*int4.quantize(module.weight))
                head = module is parts.head(wanted)
                module.weight = nn.Parameter((byte if head or weights == linear.INT8 else four).bfloat16())
    assert linear.convert(model, weights) == 2 * 7 + 1
    assert not [m for m in model.modules() if type(m) is nn.Linear]
    tokens = [[5, 6, 7, 8, 9], [1, 2, 3]]
    found, exact = (CausalEngine(m, slots=2, capacity_tokens=8) for m in (model, wanted))
    states, wanted_states = (e.hidden([0, 1], [0, 0], tokens)[0] for e in (found, exact))
    assert agree(states, wanted_states, 0.05)
    assert agree(found.logits(wanted_states), exact.logits(wanted_states), 0.03)


def test_auto_gives_a_target_its_own_numbers() -> None:
    assert choose.apply(tiny_model().bfloat16(), "auto", "target") in linear.SAME_NUMBERS
    assert choose.apply(tiny_model(), "auto", "target") == linear.FLOAT32
    assert choose.apply(tiny_model().bfloat16(), "auto", "draft") in linear.FORMATS


@pytest.mark.parametrize(
    ("weights", "line"), [("int3", "choose auto or"), ("int4", "needs type bfloat16"), ("bf16", "contradict")]
)
def test_wrong_formats_are_refused(weights: str, line: str) -> None:
    with pytest.raises(ModelError, match=line):
        choose.apply(tiny_model(), weights, "draft")
