"""Rounds as the edge would cut them out of recorded answers, for any ``(k, gamma)``. Pure, seeded.

The recorded answers are put one after the other, gated and cut by the edge's rule, and each candidate is refused with its
recorded probability; what is left is a list of rounds to draw from. The text does not change with the setting: that is left
out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.common.rng import Floats
from services.simulate.profile import Profile

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
FIELDS = ("drafted", "candidates", "kept", "skipped", "judged", "refused", "audit", "all_kept")
DRAFTED, CANDIDATES, KEPT, SKIPPED, JUDGED, REFUSED, AUDIT, ALL_KEPT = range(len(FIELDS))
LOCAL_TOKENS = 96  # without any candidate an answer of this length stays local


@dataclass(frozen=True)
class Cut:
    """The edge's limits: see its settings of the same names."""

    wait_tokens: int = 12
    span_tokens: int = 48
    risk: float = 0.8


@dataclass(frozen=True)
class Stream:
    """Tokens to cut rounds from: scores and rejection probabilities, and the gate's threshold at gamma 1."""

    u: Floats
    rejection: Floats
    tau_u: float

    @staticmethod
    def of(profile: Profile, seed: int, times: int = 3) -> Stream:
        draws = np.random.default_rng(seed)
        order = [i for _ in range(times) for i in draws.permutation(len(profile.answers))]
        u = np.concatenate([profile.answers[i].u for i in order])
        rejection = np.concatenate([profile.answers[i].rejection for i in order])
        return Stream(u, rejection, profile.tau_u)

    def drifted(self, factor: float) -> Stream:
        """Another kind of text: rejections are ``factor`` times as likely at the same scores."""
        return Stream(self.u, np.minimum(1.0, self.rejection * factor), self.tau_u)

    def flags(self, gamma: float) -> Flags:
        return np.ones(len(self.u), dtype=np.bool_) if gamma == 0.0 else self.u > gamma * self.tau_u


@dataclass(frozen=True)
class Rounds:
    """``rows`` ``[rounds, fields]`` of ``FIELDS``; ``places`` ``[rounds, 4]``: start, stop (first refused token, or the end),
    end and whether one was refused."""

    rows: Floats
    places: Ints


def end_of(u: list[float], flags: list[bool], start: int, k: int, cut: Cut) -> tuple[int, bool]:
    """Where the upload that begins at ``start`` ends, and whether there is one: without a candidate the answer stays local."""
    flagged, survival, first = 0, 1.0, -1
    last = min(len(u), start + LOCAL_TOKENS)
    for i in range(start, last):
        if flags[i]:
            first = i if first < 0 else first
            survival *= 1.0 - u[i]
            flagged += 1
        if first < 0:
            continue
        if flagged >= k or i - start + 1 >= cut.span_tokens or i - first >= cut.wait_tokens or 1.0 - survival >= cut.risk:
            return i + 1, True
    return last, first >= 0


def rounds(stream: Stream, k: int, gamma: float, seed: int, cut: Cut | None = None) -> Rounds:
    """Every round of the stream at that setting."""
    cut = cut or Cut()
    flags = stream.flags(gamma)
    coins = np.random.default_rng([seed, len(stream.u)]).random(len(stream.u))  # the same for all settings: they are compared
    refusals = flags & (coins < stream.rejection)
    u, flag, refused = stream.u.tolist(), flags.tolist(), refusals.tolist()
    places, asks, start = [], [], 0
    while start < len(u):
        end, asked = end_of(u, flag, start, k, cut)
        stop = next((i for i in range(start, end) if refused[i]), end) if asked else end
        places.append((start, stop, end, int(stop < end)))
        asks.append(asked)
        start = stop + 1 if stop < end else end
    return _rounds(np.array(places), np.array(asks), flags, stream.rejection)


def _rounds(places: Ints, asks: Flags, flags: Flags, rejection: Floats) -> Rounds:
    start, stop, end, refused = places.T
    flagged = np.concatenate([[0], np.cumsum(flags)])
    audit = np.concatenate([[0.0], np.cumsum(np.where(flags, 0.0, rejection))])
    kept = stop - start
    accepted = flagged[stop] - flagged[start]
    columns = [
        end - start,
        (flagged[end] - flagged[start]) * asks,
        kept,
        kept - accepted,
        accepted + refused,
        refused,
        audit[stop] - audit[start],
        1 - refused,
    ]
    return Rounds(np.stack(columns, axis=1).astype(float), places)


class Scorer:
    """Tokens by score, of rounds of one stream at one gamma."""

    def __init__(self, stream: Stream, gamma: float, edges: Floats) -> None:
        flags = stream.flags(gamma)
        bins = np.clip(np.searchsorted(edges, stream.u, side="left") - 1, 0, len(edges) - 2)
        self._one = np.eye(len(edges) - 1)[bins]
        rows = (np.ones(len(bins)), ~flags, np.where(flags, 0.0, stream.rejection), flags)
        self._sums = [np.vstack([np.zeros(len(edges) - 1), np.cumsum(self._one * row[:, None], axis=0)]) for row in rows]

    def of(self, places: Ints) -> Floats:
        """``[5, bins]``: drafted, audited, audit, judged and refused tokens of all ``places`` ``[rounds, 4]`` together."""
        start, stop, end, refused = places.T
        drafted, skipped, audit, flagged = self._sums
        last = np.minimum(stop, len(self._one) - 1)
        return np.stack(
            [
                (drafted[end] - drafted[start]).sum(axis=0),
                (skipped[stop] - skipped[start]).sum(axis=0),
                (audit[stop] - audit[start]).sum(axis=0),
                (flagged[stop + refused] - flagged[start]).sum(axis=0),
                (self._one[last] * refused[:, None]).sum(axis=0),
            ]
        )


MOST_K = 16


class Tables:
    """Rounds by ``k`` and level of gamma, made when first asked for, one after the other in one array. ``kind``: index of the
    stream (0: as recorded)."""

    def __init__(self, streams: list[Stream], gammas: Floats, edges: Floats, seed: int) -> None:
        self.gammas, self.edges = gammas, edges
        self._streams, self._seed = streams, seed
        shape = (len(streams), MOST_K + 1, len(gammas))
        self._first, self._size = np.full(shape, -1, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        self._rows, self.places = np.zeros((0, len(FIELDS))), np.zeros((0, 4), dtype=np.int64)
        self._used = 0
        self._scorers: dict[tuple[int, int], Scorer] = {}

    def level(self, gamma: float) -> int:
        return int(np.argmin(np.abs(self.gammas - gamma)))

    def at(self, kind: int, k: int, level: int) -> Floats:
        """All rounds of that setting, ``[rounds, fields]``."""
        self._make(kind, k, level)
        first = int(self._first[kind, k, level])
        return self._rows[first : first + int(self._size[kind, k, level])]

    def draw(self, kind: int, ks: Ints, levels: Ints, chance: Floats) -> tuple[Floats, Ints]:
        """A round for each of the settings, by ``chance`` in [0, 1); and its index in ``places``."""
        first = self._first[kind, ks, levels]
        if (first < 0).any():
            for k, level in {(int(k), int(level)) for k, level in zip(ks, levels, strict=True)}:
                self._make(kind, k, level)
            first = self._first[kind, ks, levels]
        index = first + (chance * self._size[kind, ks, levels]).astype(np.int64)
        return self._rows[index], index

    def _make(self, kind: int, k: int, level: int) -> None:
        if self._first[kind, k, level] < 0:
            made = rounds(self._streams[kind], k, float(self.gammas[level]), self._seed)
            first, end = self._used, self._used + len(made.rows)
            if end > len(self._rows):
                room = max(end, 2 * len(self._rows))
                self._rows = np.vstack([self._rows, np.zeros((room - len(self._rows), len(FIELDS)))])
                self.places = np.vstack([self.places, np.zeros((room - len(self.places), 4), dtype=np.int64)])
            self._rows[first:end], self.places[first:end] = made.rows, made.places
            self._first[kind, k, level], self._size[kind, k, level], self._used = first, len(made.rows), end

    def scorer(self, kind: int, level: int) -> Scorer:
        if (kind, level) not in self._scorers:
            self._scorers[kind, level] = Scorer(self._streams[kind], float(self.gammas[level]), self.edges)
        return self._scorers[kind, level]
