"""The format a draft ships in: four-bit layers in a folder, embedding and head borrowed from its target.

``config.json`` is the Hugging Face config of the small model plus a block ``sluice`` (``DraftNote``);
``weights.safetensors`` holds, per linear layer, ``<name>.q`` (two entries a byte, ``int4.pack``) and
``<name>.scales_zeros`` (bfloat16), and every other tensor as it is. A draft only works with the embedding it was
trained on, so the note carries a fingerprint of it and another target is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

from services.common.lm import int4, parts
from services.common.lm.errors import ModelError, one_line

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "weights.safetensors"
_DROPPED = {"_name_or_path", "_model_name_or_path", "transformers_version", "quantization_config", "id2label", "label2id"}


@dataclass(frozen=True)
class DraftNote:
    """The block ``sluice`` of ``config.json``."""

    format: int
    target: str  # reference of the model that lends embedding and head
    embedding: str  # fingerprint of that embedding
    kept_layers: list[int]  # the target's layers the draft started from, in order
    group: int  # input features that share one scale
    meta: dict[str, Any]  # how it was made and the acceptance measured


@dataclass(frozen=True)
class Shared:
    """What a draft borrows: ``embedding`` `[vocabulary, hidden]`, and ``head`` where it is not the same tensor."""

    embedding: torch.Tensor
    head: torch.Tensor | None


def shared_of(model: PreTrainedModel) -> Shared:
    """The tensors of a loaded target that its drafts borrow."""
    embedding = parts.embedding(model).weight.detach()
    head = cast(nn.Linear, parts.head(model)).weight.detach()
    return Shared(embedding, None if head is embedding or head.data_ptr() == embedding.data_ptr() else head)


def fingerprint(embedding: torch.Tensor) -> str:
    """16 hex digits over the bfloat16 rounding of an embedding, equal however the model was loaded."""
    rounded = embedding.detach().to("cpu", torch.bfloat16).contiguous()
    return hashlib.sha256(cast(bytes, rounded.view(torch.uint8).numpy())).hexdigest()[:16]


def is_draft(folder: Path) -> bool:
    """Whether a folder looks like ours (not whether it is sound)."""
    try:
        return (folder / WEIGHTS).is_file() and "sluice" in json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError):
        return False


def save_draft(
    folder: Path, student: PreTrainedModel, *, target: str, kept_layers: Sequence[int], meta: Mapping[str, Any]
) -> None:
    """Write ``student`` for use with ``target``; files of the same name are replaced in one step each."""
    folder.mkdir(parents=True, exist_ok=True)
    note = DraftNote(
        format=FORMAT,
        target=target,
        embedding=fingerprint(parts.embedding(student).weight),
        kept_layers=[int(i) for i in kept_layers],
        group=int4.GROUP,
        meta=dict(meta),
    )
    _replace(folder / WEIGHTS, lambda path: save_file(_packed(student), path, metadata={"format": "pt"}))
    text = json.dumps({**_config_of(student, kept_layers), "sluice": asdict(note)}, indent=1) + "\n"
    _replace(folder / CONFIG, lambda path: path.write_text(text))


def read_note(folder: Path) -> tuple[DraftNote, dict[str, Any]]:
    """The note and the Hugging Face config of a draft folder; ``ModelError`` if it is not one we can read."""
    try:
        raw = json.loads((folder / CONFIG).read_text())
        block = raw.pop("sluice")
        known = {f.name for f in fields(DraftNote)}
        note = DraftNote(**{k: v for k, v in block.items() if k in known})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(f"{folder} holds no readable draft ({CONFIG} with a block 'sluice'): make it again") from None
    if note.format != FORMAT or note.group != int4.GROUP:
        raise ModelError(
            f"{folder} has draft format {note.format}, this version reads {FORMAT}: make it again or update sluice"
        )
    return note, raw


def load_draft(folder: Path, dtype: torch.dtype, shared: Shared) -> PreTrainedModel:
    """The draft as a dense model of ``dtype`` over the target's embedding (not copied where the dtype is the same).

    Each four-bit layer is dense here, exactly ``int4.dequantize`` of what is stored, and keeps the stored form as the
    plain attribute ``int4`` = (packed, scales_zeros) for those who run it in four bits.
    """
    note, raw = read_note(folder)
    if fingerprint(shared.embedding) != note.embedding:
        raise ModelError(f"the draft {folder} was made for another target: use it with {note.target}")
    try:
        stored = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError):
        raise ModelError(f"{folder / WEIGHTS} is missing or damaged: make the draft again or reinstall it") from None
    state = {
        k: v.to(dtype) if v.is_floating_point() else v for k, v in stored.items() if not k.endswith((".q", ".scales_zeros"))
    }
    four_bits = {k[: -len(".q")]: (v, stored[k[: -len("q")] + "scales_zeros"]) for k, v in stored.items() if k.endswith(".q")}
    for name, (packed, scales_zeros) in four_bits.items():
        state[name + ".weight"] = int4.dequantize(int4.unpack(packed), scales_zeros).to(dtype)
    model = _dense(folder, raw, state, dtype, shared)
    modules = dict(model.named_modules())
    for name, form in four_bits.items():
        modules[name].int4 = form
    return model


def _dense(
    folder: Path, raw: dict[str, Any], state: dict[str, torch.Tensor], dtype: torch.dtype, shared: Shared
) -> PreTrainedModel:
    """A model of config ``raw`` from ``state`` and the borrowed tensors."""
    auto: Any = AutoModelForCausalLM
    try:
        config = CONFIG_MAPPING[raw["model_type"]].from_dict(raw)
        with torch.device("meta"):
            names = _borrowed(auto.from_config(config))
    except (KeyError, ValueError, TypeError) as error:
        raise ModelError(f"{folder / CONFIG} is not a config this version knows: {one_line(error)}") from None
    state[names[0]] = shared.embedding.to(dtype)
    if not config.tie_word_embeddings:
        state[names[1]] = (shared.embedding if shared.head is None else shared.head).to(dtype)
    try:
        model, found = auto._model_mapping[type(config)].from_pretrained(
            None, config=config, state_dict=state, dtype=dtype, output_loading_info=True
        )
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"the draft {folder} does not fit its config: {one_line(error)}") from None
    if found["missing_keys"] or found["unexpected_keys"] or found["mismatched_keys"]:
        raise ModelError(f"the draft {folder} lacks tensors or has strange ones: make it again or reinstall it")
    return parts.frozen(model)


def _packed(student: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Every tensor of the student that it does not borrow, linear weights in four bits."""
    borrowed = set(_borrowed(student))
    linears = {f"{name}.weight": m for name, m in student.named_modules() if isinstance(m, nn.Linear)}
    out: dict[str, torch.Tensor] = {}
    for name, tensor in student.state_dict().items():
        if name in borrowed:
            continue
        linear = linears.get(name)
        if linear is None or linear.in_features % int4.GROUP:
            out[name] = tensor.detach().float().contiguous()
            continue
        q, scales_zeros = int4.quantize(tensor)
        stem = name[: -len(".weight")]
        out[f"{stem}.q"], out[f"{stem}.scales_zeros"] = int4.pack(q).contiguous(), scales_zeros
    return {name: tensor.to("cpu") for name, tensor in out.items()}


def _borrowed(model: PreTrainedModel) -> tuple[str, str]:
    """State names of embedding and head."""
    return f"{parts.name_of(model, parts.embedding(model))}.weight", f"{parts.name_of(model, parts.head(model))}.weight"


def _config_of(student: PreTrainedModel, kept_layers: Sequence[int]) -> dict[str, Any]:
    """The student's config with per-layer lists cut to the layers that were kept."""
    raw: dict[str, Any] = json.loads(student.config.to_json_string(use_diff=False))
    kinds = raw.get("layer_types")
    if kinds and len(kinds) != raw["num_hidden_layers"]:
        raw["layer_types"] = [kinds[i] for i in kept_layers]
    return {k: v for k, v in raw.items() if k not in _DROPPED}


def _replace(path: Path, write: Any) -> None:
    """Write beside ``path``, then rename: a reader sees the old file or the new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(beside)
        beside.chmod(0o644)  # safetensors writes for the owner only; other users of an installed package read it too
        beside.chmod(0o644)  # safetensors writes for the owner alone; the folder is made to be shipped
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
