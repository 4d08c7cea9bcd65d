"""A language model without a model: the law of the next token is a hash of the last few ids. No torch.

For load tests and for breaking things: it costs microseconds, its numbers are exact on every machine and never depend on what
else is in a batch, and still drafts are accepted, corrected and extended as with real models. Sampling parameters do not
change it.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence

import numpy as np

from services.common.rng import Floats

REFERENCE = "synthetic"  # as a model reference: `synthetic`, or `synthetic:SEED`
TOKENIZER_HASH = "synthetic"
VOCABULARY = 256
MEMORY_TOKENS = 3  # the law sees this many last ids
DRAFT_NOISE = 0.25


class SyntheticLaw:
    """Prefix (ids) to probabilities `[VOCABULARY]`: integer weights of a hash, normalised.

    ``noise``: share of an unrelated law that is mixed in. A draft model with noise ``n`` beside a target of the same ``seed``
    without noise is accepted with a probability of about ``1 - n``.
    """

    def __init__(self, seed: int = 0, noise: float = 0.0) -> None:
        self._seed, self._noise = seed, noise

    def __call__(self, prefix: Sequence[int]) -> Floats:
        last = array("q", prefix[-MEMORY_TOKENS:]).tobytes()
        p = self._law(b"target", last)
        return p if not self._noise else (1.0 - self._noise) * p + self._noise * self._law(b"noise", last)

    def _law(self, name: bytes, last: bytes) -> Floats:
        key = self._seed.to_bytes(8, "little") + last
        bits = hashlib.shake_128(key + name).digest(2 * VOCABULARY)
        rank = np.frombuffer(bits, dtype="<u2").astype(np.int64) + 1
        weights = ((1 << 16) // rank) ** 2  # peaked: most often one token has half of the mass; sums stay exact in float64
        p: Floats = weights / weights.sum()
        return p


def is_synthetic(reference: str) -> bool:
    """Whether a model reference names the synthetic model."""
    return reference == REFERENCE or reference.startswith(REFERENCE + ":")


def seed_of(reference: str) -> int:
    """The seed of a synthetic model's reference. Raises ``ValueError`` with one line where it is not a number that fits."""
    _, _, text = reference.partition(":")
    if not text:
        return 0
    if not text.isdecimal() or int(text) >= 1 << 64:
        raise ValueError(f"{reference}: the seed of a synthetic model is a number from 0 to 2^64 - 1")
    return int(text)
