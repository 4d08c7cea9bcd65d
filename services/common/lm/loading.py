"""Load a causal language model and its tokenizer: from a preset's name, a package, a GGUF file, a folder or the hub.

Whatever is wrong with a reference comes out as one ``ModelError`` line that says what to do.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from services.common.lm import choose, draft_folder, hub, parts, presets
from services.common.lm import tokenizer as tokenizers
from services.common.lm.errors import ModelError, one_line
from services.common.lm.gguf import file_hash, load_gguf, smollm2_gguf
from services.common.lm.quiet import quiet
from services.common.lm.reference import PACKAGE, is_gguf, packaged_gguf

__all__ = ["LoadedModel", "check_pair", "load", "load_gguf", "smollm2_gguf"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "bf16": torch.bfloat16}
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run, and what others need to know of it."""

    reference: str  # as the user gave it
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    tokenizer_hash: str  # 16 hex digits, see tokenizer.tokenizer_hash
    vocabulary: int  # ids that mean something: the smaller of tokenizer and logits
    context_tokens: int  # longest sequence the model was made for
    end_ids: frozenset[int]  # ids that end an answer
    revision: str  # which weights these are: a commit, or a hash of the files
    weights: str  # format of the linear layers in use


@dataclass(frozen=True)
class _Parts:
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    revision: str


def load(
    reference: str,
    *,
    role: choose.Role = "target",
    dtype: str = "auto",
    device: str = "auto",
    weights: str = "auto",
    threads: int | None = None,
    verbose: bool = False,
) -> LoadedModel:
    """Load what ``reference`` names: a preset's model, ``package:NAME``, a GGUF file, a folder, or a hub id (``id@revision``).

    ``role`` bounds what ``auto`` may choose: a target keeps its numbers, a draft may take int8 or int4. ``threads`` sets
    torch's threads for this process. ``verbose`` lets transformers write its bars and warnings.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    place = _device(device)
    number = _dtype(dtype, weights, place)
    with quiet(not verbose):
        found = _read(presets.MODELS.get(reference, reference), number)
    model = found.model.to(place)  # type: ignore[arg-type]
    logits = int(parts.embedding(model).weight.shape[0])
    loaded = LoadedModel(
        reference=reference,
        model=model,
        tokenizer=found.tokenizer,
        tokenizer_hash=tokenizers.tokenizer_hash(found.tokenizer),
        vocabulary=min(tokenizers.vocabulary_size(found.tokenizer), logits),
        context_tokens=_context_tokens(model.config),
        end_ids=_end_ids(model, found.tokenizer),
        revision=found.revision,
        weights=choose.apply(model, weights, role),
    )
    _log.info(
        "model loaded",
        model=reference,
        revision=loaded.revision,
        weights=loaded.weights,
        device=str(place),
        threads=torch.get_num_threads(),
    )
    return loaded


def check_pair(draft: LoadedModel, target: LoadedModel) -> None:
    """``ModelError`` unless the ids of the two models mean the same; padding of the logits does not matter."""
    if draft.vocabulary != target.vocabulary:
        raise ModelError(
            f"{draft.reference} has {draft.vocabulary} token ids and {target.reference} {target.vocabulary}: "
            "a draft needs its target's tokenizer, choose models of one family or a preset"
        )
    if draft.tokenizer_hash != target.tokenizer_hash:
        raise ModelError(
            f"the tokenizers of {draft.reference} ({draft.tokenizer_hash}) and {target.reference} ({target.tokenizer_hash}) "
            "differ: a draft needs its target's tokenizer, choose models of one family or a preset"
        )


def _read(reference: str, dtype: torch.dtype) -> _Parts:
    """Model and tokenizer behind a reference, dense, on the CPU."""
    if reference.startswith(PACKAGE):
        return _read_gguf(packaged_gguf(reference.removeprefix(PACKAGE)), dtype)
    path = Path(reference).expanduser()
    if path.is_file():
        return _read_gguf(path, dtype)
    if path.is_dir():
        return _read_draft(path, dtype) if draft_folder.is_draft(path) else _read_folder(path, dtype)
    if reference.endswith(".gguf") or reference.startswith(("/", "./", "../", "~")):
        raise ModelError(f"there is no file or folder {reference}: check the path")
    located = hub.locate(reference)
    options = {"revision": located.revision, "local_files_only": located.offline}
    return replace(_read_transformers(located.name, dtype, **options), revision=located.commit)


def _read_gguf(path: Path, dtype: torch.dtype) -> _Parts:
    if not is_gguf(path):
        raise ModelError(f"{path} is not a GGUF file (or cannot be read): name a .gguf file, a model folder or an id")
    return _Parts(*load_gguf(path, dtype), revision=file_hash(path))


def _read_draft(folder: Path, dtype: torch.dtype) -> _Parts:
    note, _ = draft_folder.read_note(folder)
    try:
        lender = _read(note.target, dtype)
    except ModelError as error:
        raise ModelError(f"the draft {folder} borrows its embedding from {note.target}: {error}") from None
    model = draft_folder.load_draft(folder, dtype, draft_folder.shared_of(lender.model))
    return _Parts(model, lender.tokenizer, file_hash(folder / draft_folder.WEIGHTS))


def _read_folder(folder: Path, dtype: torch.dtype) -> _Parts:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} holds no model (no config.json): name a model folder, a .gguf file or an id")
    return _read_transformers(str(folder), dtype, local_files_only=True)


def _read_transformers(name: str, dtype: torch.dtype, **options: Any) -> _Parts:
    """A folder or hub id through transformers."""
    try:
        config = AutoConfig.from_pretrained(name, **options)
        _check_kind(name, config)
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
        loaded: Any = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, output_loading_info=True, **options)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{name} cannot be loaded: {one_line(error)}") from error
    model, info = loaded
    if info["missing_keys"] or info["mismatched_keys"]:
        raise ModelError(f"{name} lacks weights its config asks for ({sorted(info['missing_keys'])[:1]}...): get it again")
    revision = _folder_revision(Path(name)) if Path(name).is_dir() else str(options["revision"])
    return _Parts(parts.frozen(model), tokenizer, revision)


def _check_kind(name: str, config: PretrainedConfig) -> None:
    """Refuse what cannot be run as a causal model with a cache of keys and values per token."""
    causal = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    named = getattr(config, "architectures", None) or []
    known = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and (not named or not causal.isdisjoint(named))
    if config.is_encoder_decoder or not known:
        raise ModelError(f"{name} is not a causal language model ({', '.join(named) or config.model_type}): choose one that is")
    kinds = set(getattr(config, "layer_types", None) or [])
    if kinds - {"full_attention", "sliding_attention"}:
        raise ModelError(f"{name} has layers that cache no keys ({', '.join(sorted(kinds))}): choose a plain transformer")


def _folder_revision(folder: Path) -> str:
    """16 hex digits over a folder's config, and size and ends of its weight files (whole ones may be huge)."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted((*folder.glob("*.safetensors"), *folder.glob("*.bin"))):
        with path.open("rb") as file:
            size = path.stat().st_size
            digest.update(f"{path.name} {size}".encode() + file.read(1 << 16))
            file.seek(max(0, size - (1 << 20)))
            digest.update(file.read())
    return digest.hexdigest()[:16]


def _context_tokens(config: PretrainedConfig) -> int:
    """A sliding window counts as the end of the context: up to there the model sees all, and so do our masks."""
    text = config.get_text_config()
    longest = int(getattr(text, "max_position_embeddings", None) or 2048)
    window = getattr(text, "sliding_window", None)
    slides = getattr(text, "use_sliding_window", True)
    return min(longest, int(window)) if window and slides else longest


def _end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    generation = getattr(model, "generation_config", None)
    declared = [getattr(model.config, "eos_token_id", None), getattr(generation, "eos_token_id", None)]
    found = tokenizers.end_ids(tokenizer, *declared)
    if not found:
        _log.warning("the model names no end of answer; answers end at max_tokens only")
    return found


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ModelError(f"unknown device {name!r}: use auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device {name} is not available here: use auto or cpu")
    return device


def _dtype(name: str, weights: str, device: torch.device) -> torch.dtype:
    """``auto`` is what the weight format asks for, else bfloat16 wherever the processor computes in it, else float32."""
    if name != "auto":
        if name not in DTYPES:
            raise ModelError(f"unknown type {name!r}: use auto, float32 or bfloat16")
        return DTYPES[name]
    if weights != "auto":
        return torch.float32 if weights == "float32" else torch.bfloat16
    native = device.type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if native else torch.float32
