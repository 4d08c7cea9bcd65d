"""What a setting ``(k, gamma)`` would do on one device class, from what is measured of it. Pure.

A round ends as the edge cuts it: at ``k`` flagged tokens, ``wait_tokens`` after the first one, or where the estimated chance
of a refusal reaches ``risk``. Tokens are taken as independent with the measured histogram of gate scores; what that leaves out
is corrected by the ratio of measured to predicted figures (see ``correction``). Goodput is expected tokens over expected time
of a round, as in FlexSpec (arXiv 2601.00644) and TurboSpec (arXiv 2406.14066)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.common.rng import Floats
from services.policy.inputs import Scores

PRIOR_TOKENS = 0.5  # tokens a second that a bin's prior counts for: bins without observations lean on their neighbours


@dataclass(frozen=True)
class Edge:
    """How the edges of a class cut rounds: their ``tau_u``, ``wait_tokens`` and ``risk`` settings."""

    tau_u: float = 0.69
    wait_tokens: int = 12
    risk: float = 0.8


@dataclass(frozen=True)
class Gate:
    """By gamma ``[G]``: share of drafted tokens that are flagged, chance that a flagged one is accepted, mean rejection of
    skipped ones, and candidates after which ``risk`` ends a round. ``hit``: chance that a drafted guess is the bonus."""

    flagged: Floats
    accepted: Floats
    skipped_rejection: Floats
    most: Floats
    hit: float


def rejection_by_score(scores: Scores) -> Floats:
    """Rejection probability by bin ``[bins]``: audits where tokens were skipped, corrections where they were judged; never
    falling with the score, which also carries bins with few observations (isotonic regression, pool adjacent violators)."""
    seen = scores.audited + scores.judged
    mean = float((scores.audit + scores.refused).sum() / max(seen.sum(), 1e-9))
    weight = seen + PRIOR_TOKENS
    raw = (scores.audit + scores.refused + PRIOR_TOKENS * mean) / weight
    return isotonic(np.minimum(raw, 1.0), weight)


def isotonic(values: Floats, weights: Floats) -> Floats:
    """The rising sequence nearest to ``values`` in weighted squares."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        blocks.append((value, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (v1, w1, n1), (v2, w2, n2) = blocks[-2:]
            blocks[-2:] = [((v1 * w1 + v2 * w2) / (w1 + w2), w1 + w2, n1 + n2)]
    return np.concatenate([np.full(n, v) for v, _, n in blocks])


def gate(scores: Scores, gammas: Floats, edge: Edge) -> Gate:
    """The measured histogram as a map from gamma to rates."""
    share = scores.drafted / scores.drafted.sum()
    beta = rejection_by_score(scores)
    left, width = scores.edges[:-1], np.diff(scores.edges)
    above = np.clip((scores.edges[1:][None, :] - (gammas * edge.tau_u)[:, None]) / width[None, :], 0.0, 1.0)
    above[gammas == 0.0] = 1.0
    flagged = above @ share
    refused = above @ (share * beta)
    below = np.maximum(0.0, float(share @ beta) - refused)
    middle = np.clip(left + width / 2, 0.0, 0.999)
    loss = above @ (share * -np.log1p(-middle)) / np.maximum(flagged, 1e-9)  # of log survival, each candidate
    most = np.maximum(1.0, np.ceil(-np.log(max(1e-9, 1.0 - edge.risk)) / np.maximum(loss, 1e-9)))
    accepted = 1.0 - np.clip(refused / np.maximum(flagged, 1e-9), 0.0, 1.0)
    return Gate(flagged, accepted, below / np.maximum(1.0 - flagged, 1e-9), most, 1.0 - float(share @ beta))


@dataclass(frozen=True)
class Rounds:
    """Expectations of one round, each ``[G, K]``. ``answered`` includes the correction or bonus token; ``all_kept``: chance
    that nothing is refused; ``audit``: rejection probabilities of skipped tokens that stay, summed."""

    drafted: Floats
    answered: Floats
    judged: Floats
    all_kept: Floats
    audit: Floats

    @property
    def damage(self) -> Floats:
        return self.audit / self.answered

    @property
    def upload_rate(self) -> Floats:
        return self.judged / self.answered


LEAST_FLAGGED = 1e-3


def rounds(gate_: Gate, ks: Floats, edge: Edge) -> Rounds:
    """``ks`` ``[K]``: whole numbers from 1, rising."""
    q = np.maximum(gate_.flagged, LEAST_FLAGGED)
    columns = [_rounds_at(q, gate_, int(k), edge.wait_tokens) for k in ks]
    stacked = [np.stack([column[i] for column in columns], axis=1) for i in range(5)]
    return Rounds(*stacked)


def _rounds_at(q: Floats, gate_: Gate, k: int, wait: int) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Markov chain over the tokens after the first candidate: its state is the number of candidates so far. ``alive`` goes on
    drafting; ``kept`` is its part in which no candidate will be refused."""
    a, end = gate_.accepted, np.minimum(k, gate_.most)
    counts = np.arange(1, k + 1)[None, :]
    alive = np.zeros((len(q), k))
    kept = np.zeros((len(q), k))
    alive[:, 0], kept[:, 0] = 1.0, a
    before = (1.0 - q) / q  # skipped tokens before the first candidate
    drafted, stays, accepted = before + 1.0, before + a, a.copy()
    skipped = before.copy()
    whole = np.zeros(len(q))
    for _ in range(wait):
        done = counts >= end[:, None]
        whole += (kept * done).sum(axis=1)
        alive, kept = alive * ~done, kept * ~done
        drafted = drafted + alive.sum(axis=1)
        still = kept.sum(axis=1)
        stays = stays + still * (1.0 - q + q * a)
        skipped = skipped + still * (1.0 - q)
        accepted = accepted + still * q * a
        alive = alive * (1.0 - q)[:, None] + _up(alive * q[:, None])
        kept = kept * (1.0 - q)[:, None] + _up(kept * (q * a)[:, None])
    whole += kept.sum(axis=1)
    return drafted, stays + 1.0, accepted + 1.0 - whole, whole, skipped * gate_.skipped_rejection


def _up(mass: Floats) -> Floats:
    out = np.zeros_like(mass)
    out[:, 1:] = mass[:, :-1]
    return out


def seconds(rounds_: Rounds, hit: float, draft_seconds: float, round_trip_seconds: float) -> Floats:
    """Of one round ``[G, K]``: drafting, and the wait less what drafting ahead saves where the guess at the bonus holds."""
    drafting = rounds_.drafted * draft_seconds
    saved = rounds_.all_kept * hit * np.minimum(round_trip_seconds, drafting)
    out: Floats = drafting + round_trip_seconds - saved
    return out
