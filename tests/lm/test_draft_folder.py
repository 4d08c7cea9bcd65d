"""A draft comes back from its folder exactly as it was quantised, and only with the target it was made for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import LlamaForCausalLM

from services.common.lm import draft_folder, int4, linear, parts
from services.common.lm.errors import ModelError
from services.common.lm.loading import check_pair, load
from services.distill.train import student_of
from tests.lm.conftest import tiny_model


def student(target: LlamaForCausalLM, layers: tuple[int, ...] = (0, 2)) -> LlamaForCausalLM:
    made = student_of(target, layers)
    assert isinstance(made, LlamaForCausalLM)
    with torch.no_grad():
        for parameter in made.model.layers.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made


def saved(folder: Path, target: LlamaForCausalLM, reference: str = "x") -> LlamaForCausalLM:
    made = student(target)
    draft_folder.save_draft(folder, made, target=reference, kept_layers=(0, 2), meta={"acceptance": 0.5})
    return made


@pytest.mark.parametrize("tied", [True, False])
def test_round_trip_is_exact(tmp_path: Path, tied: bool) -> None:
    target = tiny_model(layers=3, tied=tied)
    made = saved(tmp_path, target)
    model = draft_folder.load_draft(tmp_path, torch.float32, draft_folder.shared_of(target))
    for name, module in made.named_modules():
        if isinstance(module, nn.Linear) and "layers" in name:
            assert torch.equal(model.get_parameter(f"{name}.weight"), int4.dequantize(*int4.quantize(module.weight))), name
        elif name.endswith("norm"):
            assert torch.equal(model.get_parameter(f"{name}.weight"), made.get_parameter(f"{name}.weight")), name
    assert torch.equal(parts.embedding(model).weight, parts.embedding(target).weight)
    assert torch.equal(model.get_parameter("lm_head.weight"), target.lm_head.weight)
    note, config = draft_folder.read_note(tmp_path)
    assert (note.kept_layers, note.meta, config["num_hidden_layers"]) == ([0, 2], {"acceptance": 0.5}, 2)


def test_four_bits_on_disk_are_the_four_bits_that_run(tmp_path: Path) -> None:
    if not linear.available(linear.INT4):
        pytest.skip("int4 does not run on this processor")
    target = tiny_model(layers=3)
    saved(tmp_path, target)
    model = draft_folder.load_draft(tmp_path, torch.bfloat16, draft_folder.shared_of(target))
    dense = {n: m.weight.float() for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    linear.convert(model, linear.INT4)
    name = "model.layers.1.mlp.down_proj"
    held = model.get_submodule(name)
    assert isinstance(held, linear.Int4Linear)
    torch.testing.assert_close(int4.dequantize(int4.unpack(held.stored), held.scales_zeros), dense[name], atol=1e-2, rtol=1e-2)


def test_another_target_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, tiny_model(layers=3))
    with pytest.raises(ModelError, match="made for another target: use it with x"):
        draft_folder.load_draft(tmp_path, torch.float32, draft_folder.shared_of(tiny_model(seed=1, layers=3)))


def test_damage_is_one_clear_line(tmp_path: Path) -> None:
    target = tiny_model(layers=3)
    shared = draft_folder.shared_of(target)
    saved(tmp_path, target)
    weights, config = tmp_path / draft_folder.WEIGHTS, tmp_path / draft_folder.CONFIG
    whole, text = weights.read_bytes(), config.read_text()

    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="missing or damaged"):
        draft_folder.load_draft(tmp_path, torch.float32, shared)
    weights.write_bytes(whole)

    raw = json.loads(text)
    raw["sluice"]["format"] = 99
    config.write_text(json.dumps(raw))
    with pytest.raises(ModelError, match="draft format 99"):
        draft_folder.load_draft(tmp_path, torch.float32, shared)

    raw = json.loads(text)
    raw["num_hidden_layers"] = 3
    config.write_text(json.dumps(raw))
    with pytest.raises(ModelError, match="lacks tensors"):
        draft_folder.load_draft(tmp_path, torch.float32, shared)

    config.write_text("{")
    with pytest.raises(ModelError, match="holds no readable draft"):
        draft_folder.load_draft(tmp_path, torch.float32, shared)


def test_a_draft_folder_is_a_reference(tmp_path: Path, tiny_folder: Path) -> None:
    target = load(str(tiny_folder), dtype="float32")
    assert isinstance(target.model, LlamaForCausalLM)
    made = student_of(target.model, (1,))
    folder = tmp_path / "draft"
    draft_folder.save_draft(folder, made, target=str(tiny_folder), kept_layers=(1,), meta={})
    draft = load(str(folder), dtype="float32", role="draft")
    check_pair(draft, target)
    assert draft.model.config.num_hidden_layers == 1
    assert draft.end_ids == target.end_ids
