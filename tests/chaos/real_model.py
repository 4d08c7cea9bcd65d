"""Kills with the real default pair: a token may differ from the undisturbed run only where its draw lay within rounding.

A real model's numbers depend, in their last bits, on what else is in a batch. Where two runs write different tokens, the round
in which they part is judged again here, and each draw of it measured: how far it was from going the other way.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import SecretStr

from services.common import rng
from services.common.codec import base_digest
from services.common.messages import CandidateBatch
from services.common.rng import Purpose
from services.common.sampling import Sampling
from services.common.speculative import TOTAL, Row, SpanToken, rejection
from tests.chaos.evidence import behind
from tests.chaos.fleet import Fleet, Habits, Job, Model, Written
from tests.chaos.site import Site, credential
from tests.chaos.verifiers import Pool

if TYPE_CHECKING:
    from services.common.lm.loading import LoadedModel
    from services.edge_worker.model import Ready

VERIFIERS = 2
SESSION_TIMEOUT_MS = 6_000
PATIENT_SECONDS = 120.0
# Of a probability. In float32 two batches differ by some 1e-6; a draw that happens to lie this near comes once in thousands.
ROUNDING = 1e-4
SUBJECTS = (
    "the sea",
    "an old clock",
    "bread",
    "the moon",
    "a long winter",
    "trains",
    "a garden",
    "rain",
    "two brothers",
    "maps",
)
KNOBS = {
    "MODEL": "smollm2-135m",
    "DTYPE": "float32",
    "DEVICE": "cpu",
    "THREADS": 1,
    "SLOTS": 16,
    "MAX_BATCH_SESSIONS": 4,
    "CAPACITY_TOKENS": 256,
    "PREFILL_CHUNK_TOKENS": 64,
}


@dataclass(frozen=True)
class RealScale:
    kills: int
    answers: int
    tokens: int
    seed: int


@dataclass
class RealFigures:
    """``streams_different``: answers that differ although no draw was within rounding. ``excused``: the distance (of a
    probability) of the nearest draw, for each answer that differs because of it. ``stalls``: the longest pause (seconds) at
    each kill.
    """

    kills: int
    answers: int
    answers_lost: int
    streams_different: int
    excused: list[float]
    unverified_share: float
    stalls: list[float]
    partitions_behind: list[int]
    crashes: int


async def run(site: Site, scale: RealScale) -> RealFigures:
    """The same answers in peace and with kills, by one device that drafts nothing ahead: it adds no rounding of its own."""
    ready = await asyncio.to_thread(_draft_model)
    model = Model(ready.drafter, ready.tokenizer_hash, ready.target)
    habits = Habits(deadline=PATIENT_SECONDS, gamma=0.5, ahead=False)
    work = _jobs(ready, scale)
    async with site.pool(session_timeout_ms=SESSION_TIMEOUT_MS, **KNOBS) as pool:  # type: ignore[arg-type]
        await pool.grow(VERIFIERS)
        async with site.fleet("real-peace", 1, habits, model=model) as fleet:
            rounds = _record(fleet)
            await fleet.keep_writing(scale.answers, work)
            expected = {w.job.seed: w for w in fleet.written}
        async with site.fleet("real", 1, habits, model=model) as fleet:
            load = asyncio.create_task(fleet.keep_writing(scale.answers, work))
            windows = await _kill(pool, scale, site)
            await load
            late = await behind(site.broker.bootstrap)
            crashes = pool.count_crashes()
    await asyncio.to_thread(ready.drafter.close)
    parted = [(expected[w.job.seed], w) for w in fleet.written if w.ids != expected[w.job.seed].ids]
    distances = [await asyncio.to_thread(_distance, a, b, rounds) for a, b in parted]
    return RealFigures(
        kills=len(windows),
        answers=len(fleet.written),
        answers_lost=sum(not w.complete for w in fleet.written),
        streams_different=sum(d > ROUNDING for d in distances),
        excused=[d for d in distances if d <= ROUNDING],
        unverified_share=fleet.unverified_share,
        stalls=[max(s for w in fleet.written if (s := w.stall(*window)) is not None) for window in windows],
        partitions_behind=late,
        crashes=crashes,
    )


async def _kill(pool: Pool, scale: RealScale, site: Site) -> list[tuple[float, float]]:
    draw, clock = random.Random(scale.seed), asyncio.get_running_loop().time
    windows = []
    for _ in range(scale.kills):
        await asyncio.sleep(draw.uniform(1.0, 2.0))  # of work
        begin = clock()
        pool.kill(draw.choice(pool.members))
        await pool.grow(VERIFIERS)
        windows.append((begin, clock()))
        site.say(f"real pair: {len(windows)} of {scale.kills} kills")
    return windows


def _draft_model() -> Ready:
    from services.edge_worker import model
    from services.edge_worker.settings import EdgeSettings

    return model.load(EdgeSettings(credential=SecretStr(credential().text()), sessions=16, threads=1, dtype="float32"))


def _jobs(ready: Ready, scale: RealScale) -> list[Job]:
    draw = random.Random(scale.seed)
    texts = [f"Write a few sentences about {SUBJECTS[n % len(SUBJECTS)]}." for n in range(scale.answers)]
    return [Job([int(i) for i in ready.tokenizer(text)["input_ids"]], scale.tokens, draw.randrange(1 << 63)) for text in texts]


# -- where two runs part ----------------------------------------------------------------------------------------------


def _record(fleet: Fleet) -> list[CandidateBatch]:
    """Every round that the fleet uploads from now on."""
    found: list[CandidateBatch] = []
    for device in fleet.devices:
        submit = device.client.submit

        async def recorded(message: CandidateBatch) -> int:
            found.append(message)
            return await submit(message)  # noqa: B023 - there is one device

        device.client.submit = recorded  # type: ignore[method-assign]
    return found


def _distance(a: Written, b: Written, rounds: Sequence[CandidateBatch]) -> float:
    """How near the nearest draw was to going the other way, in the round where ``a`` and ``b`` part."""
    n = next(n for n, (x, y) in enumerate(zip(a.ids, b.ids, strict=False)) if x != y)
    number = max(r for r in (a.rounds[n], b.rounds[n]) if r is not None)
    text = a.job.prompt + a.ids[:n]
    known = [m for m in rounds if m.round == number and m.base_length <= len(text)]
    batch = next(m for m in known if m.base_digest == base_digest(text[: m.base_length]))
    base, span = text[: batch.base_length], batch.tokens()
    return nearest_draw(span, _rows(base, span), a.job.seed, len(base), number, batch.want_bonus)


def nearest_draw(span: Sequence[SpanToken], y: Sequence[Row], seed: int, start: int, round_: int, want_bonus: bool) -> float:
    """The smallest distance of any draw that ``speculative.judge`` makes from its boundary, as a probability."""
    nearest = float("inf")
    for j, token in enumerate(span):
        if token.x is None:
            continue
        refused = rejection(float(y[j][token.d]), token.x_d)
        coin = rng.uniform(seed, start + j, round_, Purpose.ACCEPT)
        nearest = min(nearest, abs(coin - refused))
        if coin < refused:
            rest = y[j].astype(np.float64)
            rest[token.x.ids] -= token.x.counts / TOTAL
            cumulative = np.cumsum(np.maximum(rest, 0.0))
            place = rng.uniform(seed, start + j, round_, Purpose.RESIDUAL) * cumulative[-1]
            return min(nearest, float(np.abs(cumulative - place).min() / cumulative[-1]))
    if want_bonus:
        row = y[len(span)].astype(np.float64)
        ids = np.flatnonzero(row)
        scores = np.sort(np.log(row[ids]) + rng.gumbel(seed, start + len(span), round_ + 1, ids))
        nearest = min(nearest, float(scores[-1] - scores[-2]))
    return nearest


_LOADED: list[LoadedModel] = []


def _rows(base: list[int], span: Sequence[SpanToken]) -> list[Row]:
    """The target's law at each position of the span and after it, in one pass without a cache."""
    import torch

    from services.common.lm.loading import load
    from services.common.warp import distribution

    if not _LOADED:
        _LOADED.append(load("smollm2-135m", dtype="float32", device="cpu", threads=1))
    loaded = _LOADED[0]
    with torch.inference_mode():
        logits = loaded.model(torch.tensor([base + [t.d for t in span]])).logits[0, len(base) - 1 :, : loaded.vocabulary]
        return list(distribution(logits, Sampling()).cpu().numpy())
