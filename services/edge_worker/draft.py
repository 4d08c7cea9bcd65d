"""The draft model: one token of each waiting session at a time, on a thread of its own.

A step turns logits into everything the session needs of a position: ``x`` cut and rounded to counts, ``d`` sampled from those
counts, the uncertainty, importance and log probabilities where asked for. The work happens on one engine thread; the event
loop only awaits it. What several sessions ask for while the thread is busy shares its next pass.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
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

SHORT_TOKENS = 8  # a correction or a bonus, and what was drafted on top of it


@dataclass(frozen=True)
class Step:
    """What is drafted at one position. ``d`` is drawn from ``x``; ``u`` sees ``d`` unless the caller asked for a blind one.

    ``importance``: ``binding`` of this position, or ``received`` of the one before; ``None`` where it was not asked for.
    ``signals``: every uncertainty by name, where the drafter was told to keep them.
    """

    d: int
    x: Sparse
    x_d: float
    u: float
    logprob: float | None
    top: tuple[tuple[int, float], ...]
    importance: float | None = None
    signals: Mapping[str, float] = field(default_factory=dict)


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


@dataclass(frozen=True)
class Scored:
    """``u`` for the gate, and the signals it was made of, by name, where somebody keeps them."""

    u: float
    signals: Mapping[str, float] = field(default_factory=dict)


Scorer = Callable[[torch.Tensor, int | None, Draws], Scored]  # raw logits [vocabulary], the draft or None (blind), draws


def scorer(signal: Signal, predictor: Predictor | None = None) -> Scorer:
    """``u`` by one signal, or by a ``predictor`` over all of them."""
    if predictor is None:
        return lambda logits, token, draws: Scored(uncertainty(logits, token, signal, draws))
    return lambda logits, token, draws: Scored(predictor.one(signals_of(logits, token)))


def signals_of(logits: torch.Tensor, token: int | None) -> dict[str, float]:
    """All noise-free signals by name."""
    return {signal.value: u for signal, u in every_signal(logits, token).items()}


class DraftEngine:
    """The draft model and what it last saw in each slot; synchronous, for one thread.

    ``entries``: most ids of ``x``; ``vocabulary``: true size, padding is cut off; ``layer``: whose attention importance is
    taken from. ``beat`` is called after each piece of a long text.
    """

    def __init__(
        self,
        engine: CausalEngine,
        *,
        vocabulary: int,
        entries: int,
        prefill_tokens: int = 256,
        layer: int = 0,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.slots = engine.cache.slots
        self._engine = engine
        self._vocabulary = vocabulary
        self._entries = entries
        self._prefill_tokens = prefill_tokens
        self._layer = layer
        self._beat = beat
        self._last: dict[int, tuple[int, torch.Tensor]] = {}  # slot: position and logits of its last step

    def forget(self, slot: int) -> None:
        self._last.pop(slot, None)

    @torch.inference_mode()
    def draft(self, requests: Sequence[StepRequest], scorers: Sequence[Scorer]) -> list[Step]:
        """One step of each; their slots must be distinct."""
        rows = self._forward([request for request in requests if request.tokens])
        return [self._step(r, score, rows.get(r.slot)) for r, score in zip(requests, scorers, strict=True)]

    def _step(self, request: StepRequest, score: Scorer, row: torch.Tensor | None) -> Step:
        position, logits = self._last[request.slot]
        if position != request.start + len(request.tokens):
            raise RuntimeError("only the position of the last step can be drawn again")
        x = sparse(logits, request.sampling, self._entries)
        d = x.sample(request.seed, position, request.round)
        scored = score(logits, None if request.blind else d, Draws(request.seed, position, request.round))
        i = None if row is None else importance(row, request.importance)
        logprob, top = _logprobs(logits, d, request.top_logprobs)
        return Step(d, x, x.of(d), scored.u, logprob, top, i, scored.signals)

    def _forward(self, requests: Sequence[StepRequest]) -> dict[int, torch.Tensor]:
        """The logits of the positions that come next, kept by slot; attention rows `[position]` where importance is asked for.

        A long text goes in pieces by itself, since a pass costs its padded size; short ones go together.
        """
        pieces = [(request, *self._prefilled(request)) for request in requests]
        short = [piece for piece in pieces if len(piece[2]) <= SHORT_TOKENS]
        groups = [[piece] for piece in pieces if len(piece[2]) > SHORT_TOKENS]
        rows: dict[int, torch.Tensor] = {}
        for group in [*groups, short] if short else groups:
            rows |= self._pass(group)
        return rows

    def _pass(self, pieces: Sequence[tuple[StepRequest, int, list[int]]]) -> dict[int, torch.Tensor]:
        slots = [request.slot for request, _, _ in pieces]
        starts, tokens = [start for _, start, _ in pieces], [rest for _, _, rest in pieces]
        watched = any(request.importance is not Importance.NONE for request, _, _ in pieces)
        attention = LastRow(self._layer) if watched else None
        states = self._engine.hidden(slots, starts, tokens, attention)
        last = torch.stack([states[b, len(rest) - 1] for b, rest in enumerate(tokens)])
        logits = self._engine.logits(last)[:, : self._vocabulary]
        rows = {}
        for b, (slot, start, rest) in enumerate(zip(slots, starts, tokens, strict=True)):
            position = start + len(rest)
            self._last[slot] = position, logits[b]
            if attention is not None and attention.weights is not None:
                rows[slot] = attention.weights[b, :position]
        return rows

    def _prefilled(self, request: StepRequest) -> tuple[int, list[int]]:
        """Where the last piece starts, and the piece."""
        tokens, start = list(request.tokens), request.start
        while len(tokens) > self._prefill_tokens:
            piece, tokens = tokens[: self._prefill_tokens], tokens[self._prefill_tokens :]
            self._engine.hidden([request.slot], [start], [piece])
            start += len(piece)
            self._beat()
        return start, tokens


class ModelDrafter:
    """``Drafter`` over a ``CausalEngine``, see ``DraftEngine``. ``predictor``: makes ``u`` of all signals, instead of
    ``signal``."""

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
        self._progress = Progress()
        self._engine = DraftEngine(
            engine,
            vocabulary=vocabulary,
            entries=entries,
            prefill_tokens=prefill_tokens,
            layer=layer,
            beat=self._progress.beat,
        )
        self._scorer = scorer(signal, predictor)
        self._free = list(range(self._engine.slots))
        self._waiting: deque[tuple[StepRequest, Future[Step]]] = deque()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="draft")

    def acquire(self) -> int | None:
        return self._free.pop() if self._free else None

    def release(self, slot: int) -> None:
        self._engine.forget(slot)
        self._free.append(slot)

    async def step(self, request: StepRequest) -> Step:
        self._progress.asked()
        future: Future[Step] = Future()
        self._waiting.append((request, future))
        self._thread.submit(self._run).add_done_callback(lambda _: self._progress.done())
        return await asyncio.wrap_future(future)

    def stalled(self) -> float:
        """Seconds since a step was last done, while there is one to do; else 0."""
        return self._progress.stalled()

    def close(self) -> None:
        """Wait for the step under way and end the thread."""
        self._thread.shutdown(wait=True)

    def _run(self) -> None:
        """Everything that waits now; a request whose session gave it up in the meantime is left out."""
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        taken = [(request, future) for request, future in taken if future.set_running_or_notify_cancel()]
        if not taken:
            return
        try:
            steps = self._engine.draft([request for request, _ in taken], [self._scorer] * len(taken))
        except Exception as error:  # noqa: BLE001  whoever asked hears of it
            for _, future in taken:
                future.set_exception(error)
            return
        for (_, future), step in zip(taken, steps, strict=True):
            future.set_result(step)


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
