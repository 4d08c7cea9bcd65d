"""Counter-based random numbers, keyed by (seed, position, round, purpose).

Every draw of an answer can be derived again from the message that carries the seed: nothing here has state. The key of a
draw names its position in the sequence, the round the draft at that position belongs to (each round is one attempt at its
positions), and its purpose, so that no two purposes share a number. One sharing is intended: the bonus token of a round
is drawn with the *draft* noise of the next round at its position (``GUMBEL``), which makes it likely to equal the token that
the device drafted ahead there, and stays exact because that noise decides nothing else.

The stream of one key is SplitMix64 (Steele, Lea, Flood 2014), which allows random access by index: entry ``i`` belongs to
token id ``i``, so the device may look at the few ids of its support and the verifier at all of them.
"""

from __future__ import annotations

import enum
import hashlib
import struct

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class Purpose(enum.IntEnum):
    """What a random number is for."""

    GUMBEL = 1  # the draft token; the bonus token at the place where the next round's draft starts
    ACCEPT = 2
    RESIDUAL = 3
    AUDIT = 4
    GATE = 5  # the random gate, a baseline
    TEMPERATURE = 6  # of a perturbation of the sampled uncertainty
    PERTURBATION = 7  # the token drawn at that temperature


def key(seed: int, position: int, round_: int, purpose: Purpose) -> np.uint64:
    """The 64-bit start of one stream."""
    packed = struct.pack("<QqqB", seed & 0xFFFFFFFFFFFFFFFF, position, round_, purpose)
    return np.uint64(int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "little"))


def _uniforms(start: np.uint64, index: Ids) -> Floats:
    """Entries ``index`` of the stream, uniform in the open interval (0, 1)."""
    with np.errstate(over="ignore"):
        z = start + (index.astype(np.uint64) + np.uint64(1)) * _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _MIX_1
        z = (z ^ (z >> np.uint64(27))) * _MIX_2
        z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def uniform(seed: int, position: int, round_: int, purpose: Purpose) -> float:
    """One number in (0, 1)."""
    return float(_uniforms(key(seed, position, round_, purpose), np.zeros(1, dtype=np.int64))[0])


def uniforms(seed: int, position: int, round_: int, purpose: Purpose, count: int) -> Floats:
    """The first ``count`` numbers of the stream, in (0, 1)."""
    return _uniforms(key(seed, position, round_, purpose), np.arange(count, dtype=np.int64))


def gumbel(seed: int, position: int, round_: int, ids: Ids) -> Floats:
    """Gumbel noise of the token ``ids``: ``argmax(log p + noise)`` is a sample of ``p``."""
    noise: Floats = -np.log(-np.log(_uniforms(key(seed, position, round_, Purpose.GUMBEL), ids)))
    return noise
