"""The draft model: one token at a time, on a thread of its own.

A step turns logits into everything the session needs of a position: ``x`` cut and rounded to counts, ``d`` sampled from those
counts, the uncertainty, importance and log probabilities where asked for. The work happens on one engine thread; the event
loop only awaits it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from services.common.calibration.predictor import Predictor
from services.common.lm.attention import LastRow
from services.common.lm.engine import CausalEngine
from services.common.progress import Progress
from services.common.sampling import Sampling
from services.common.speculative import Sparse
from services.common.warp import distribution
from services.edge_worker.gate import Draws, uncertainty
from services.edge_worker.gate.importance import importance
from services.edge_worker.gate.uncertainty import every_signal
from services.edge_worker.signals import Importance, Signal


@dataclass(frozen=True)
class Step:
    """What is drafted at one position. ``d`` is drawn from ``x``; ``u`` sees ``d`` unless the caller asked for a blind one.

    ``importance``: ``binding`` of this position, or ``received`` of the one before; ``None`` where it was not asked for.
    """

    d: int
    x: Sparse
    x_d: float
    u: float
    logprob: float | None
    top: tuple[tuple[int, float], ...]
    importance: float | None = None


@dataclass(frozen=True)
class StepRequest:
    """Feed ``tokens`` at ``start`` of ``slot``, then draft the position after them.

    No ``tokens``: draw the position of the slot's last step, which must be ``start``, again under another round.
    """

    slot: int
    start: int
    tokens: Sequence[int]
    sampling: Sampling
    seed: int
    round: int
    blind: bool
    top_logprobs: int | None
    importance: Importance = Importance.NONE


class Drafter(Protocol):
    """The seam of the session loop to the draft model."""

    def acquire(self) -> int | None:
        """A free slot, or ``None``."""
        ...

    def release(self, slot: int) -> None: ...

    async def step(self, request: StepRequest) -> Step: ...


class ModelDrafter:
    """``Drafter`` over a ``CausalEngine``. ``entries``: most ids of ``x``; ``vocabulary``: true size, padding is cut off;
    ``layer``: whose attention importance is taken from; ``predictor``: makes ``u`` of all signals, instead of ``signal``."""

    def __init__(
        self,
        engine: CausalEngine,
        *,
        vocabulary: int,
        signal: Signal,
        entries: int,
        prefill_tokens: int = 256,
        layer: int = 0,
        predictor: Predictor | None = None,
    ) -> None:
        self._engine = engine
        self._vocabulary = vocabulary
        self._signal = signal
        self._entries = entries
        self._prefill_tokens = prefill_tokens
        self._layer = layer
        self._predictor = predictor
        self._free = list(range(engine.cache.slots))
        self._last: dict[int, tuple[int, torch.Tensor]] = {}  # slot: position and logits of its last step
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="draft")
        self._progress = Progress()

    def acquire(self) -> int | None:
        return self._free.pop() if self._free else None

    def release(self, slot: int) -> None:
        self._last.pop(slot, None)
        self._free.append(slot)

    async def step(self, request: StepRequest) -> Step:
        self._progress.asked()
        work = self._thread.submit(self._step, request)
        work.add_done_callback(lambda _: self._progress.done())
        return await asyncio.wrap_future(work)

    def stalled(self) -> float:
        """Seconds since a step was last done, while there is one to do; else 0."""
        return self._progress.stalled()

    def close(self) -> None:
        """Wait for the step under way and end the thread."""
        self._thread.shutdown(wait=True)

    @torch.inference_mode()
    def _step(self, request: StepRequest) -> Step:
        attention = None
        if request.tokens:
            attention = LastRow(self._layer) if request.importance is not Importance.NONE else None
            self._last[request.slot] = self._forward(request, attention)
        position, logits = self._last[request.slot]
        if position != request.start + len(request.tokens):
            raise RuntimeError("only the position of the last step can be drawn again")
        x = sparse(logits, request.sampling, self._entries)
        d = x.sample(request.seed, position, request.round)
        u = self._uncertainty(logits, None if request.blind else d, Draws(request.seed, position, request.round))
        i = None if attention is None or attention.weights is None else importance(attention.weights[0], request.importance)
        logprob, top = _logprobs(logits, d, request.top_logprobs)
        return Step(d, x, x.of(d), u, logprob, top, i)

    def _uncertainty(self, logits: torch.Tensor, token: int | None, draws: Draws) -> float:
        if self._predictor is None:
            return uncertainty(logits, token, self._signal, draws)
        return self._predictor.one({signal.value: u for signal, u in every_signal(logits, token).items()})

    def _forward(self, request: StepRequest, attention: LastRow | None) -> tuple[int, torch.Tensor]:
        """The position that comes next and its logits `[vocabulary]`; a long text goes in pieces."""
        tokens, start = list(request.tokens), request.start
        while len(tokens) > self._prefill_tokens:
            piece, tokens = tokens[: self._prefill_tokens], tokens[self._prefill_tokens :]
            self._engine.hidden([request.slot], [start], [piece])
            start += len(piece)
            self._progress.beat()
        states = self._engine.hidden([request.slot], [start], [tokens], attention)
        return start + len(tokens), self._engine.logits(states[0, -1:])[0, : self._vocabulary]


def sparse(logits: torch.Tensor, sampling: Sampling, entries: int) -> Sparse:
    """``x`` of raw ``logits`` `[vocabulary]`: warped, cut to its largest ``entries``, rounded to counts."""
    if sampling.greedy:
        return Sparse.certain(int(logits.argmax()))
    p = distribution(logits.unsqueeze(0), sampling)[0]
    top = p.topk(min(entries, len(p)))
    ids = top.indices.cpu().numpy().astype(np.int64)
    return Sparse.cut(ids, top.values.cpu().numpy().astype(np.float64), entries)


def _logprobs(logits: torch.Tensor, d: int, wanted: int | None) -> tuple[float | None, tuple[tuple[int, float], ...]]:
    if wanted is None:
        return None, ()
    log_p = torch.log_softmax(logits.float(), dim=-1)
    best = log_p.topk(wanted) if wanted else None
    pairs = () if best is None else tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    return float(log_p[d]), pairs
