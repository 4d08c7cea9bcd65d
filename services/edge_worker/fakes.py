"""Small exact stand-ins for the session loop's two seams: a drafter over a table and a verifier in the same process.

They run the real sampling, messages and codec; only the models and the network are replaced. For tests, simulations and
trying out gates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
import torch

from services.common import codec
from services.common.messages import Cancel, CandidateBatch, Open, Status, Verdict, decode, encode
from services.common.rng import Floats
from services.common.speculative import Row, Sparse, judge
from services.edge_worker.draft import Step, StepRequest
from services.edge_worker.gate.importance import importance
from services.edge_worker.verifier_client import LinkDown, Lost

Law = Callable[[Sequence[int]], Floats]  # prefix (all ids) -> probabilities [vocabulary]


class TableDrafter:
    """``Drafter`` whose distribution is a function of the prefix. ``u`` is one minus the largest probability.

    ``attention``: likewise, the row of weights `[len(prefix)]` that importance is taken from.
    """

    def __init__(self, law: Law, *, slots: int = 64, entries: int = 64, attention: Law | None = None) -> None:
        self._law, self._entries, self._attention = law, entries, attention
        self._free = list(range(slots))
        self._fed: dict[int, list[int]] = {}
        self.steps = 0

    def acquire(self) -> int | None:
        return self._free.pop() if self._free else None

    def release(self, slot: int) -> None:
        self._free.append(slot)
        self._fed.pop(slot, None)

    async def step(self, request: StepRequest) -> Step:
        await asyncio.sleep(0)
        fed = self._fed.get(request.slot, [])
        if len(fed) < request.start:
            raise RuntimeError("the session skipped tokens that this slot was never fed")
        prefix = [*fed[: request.start], *request.tokens]
        self._fed[request.slot] = prefix
        self.steps += 1
        p = self._law(prefix)
        x = Sparse.cut(np.arange(len(p)), p, self._entries)
        d = x.sample(request.seed, len(prefix), request.round)
        row = None if self._attention is None else torch.from_numpy(self._attention(prefix))
        i = None if row is None else importance(row, request.importance)
        u = 1.0 - float(p.max())
        return Step(d, x, x.of(d), u, None, (), i, {"one_minus_max": u})


class LoopbackClient:
    """``VerifierClient`` that judges at once. ``hold`` keeps verdicts back until ``let_go``; ``down`` refuses uploads."""

    def __init__(self, law: Law) -> None:
        self._law = law
        self._opened: dict[bytes, tuple[Open, list[int]]] = {}
        self._queues: dict[bytes, asyncio.Queue[Verdict | Lost]] = {}
        self._held: list[Verdict] = []
        self.hold = False
        self.down = ""
        self.forget_context = False
        self.refuse: list[Status] = []  # what the next rounds are answered with
        self.batches: list[CandidateBatch] = []
        self.opens: list[Open] = []
        self.cancelled: list[bytes] = []
        self.laws: list[Row] = []  # at each token of the span judged last, skipped or not

    def verdicts(self, session: bytes) -> asyncio.Queue[Verdict | Lost]:
        return self._queues.setdefault(session, asyncio.Queue())

    def release(self, session: bytes) -> None:
        self._queues.pop(session, None)

    async def open(self, message: Open) -> int:
        data = self._carry(message)
        self.opens.append(message)
        self._opened[message.session] = (message, message.base())
        return len(data)

    async def submit(self, message: CandidateBatch) -> int:
        data = self._carry(message)
        self.batches.append(message)
        verdict = self._judge(message)
        if self.hold:
            self._held.append(verdict)
        else:
            self._hand_over(verdict)
        return len(data)

    async def cancel(self, message: Cancel) -> int:
        self.cancelled.append(message.session)
        return 0

    def let_go(self) -> None:
        """Deliver what was held back."""
        held, self._held = self._held, []
        for verdict in held:
            self._hand_over(verdict)

    def _carry(self, message: Open | CandidateBatch) -> bytes:
        if self.down:
            raise LinkDown(self.down, f"{self.down} is down")
        data = encode(message)
        if decode(data) != message:
            raise RuntimeError("a message changed on the wire")
        return data

    def _hand_over(self, verdict: Verdict) -> None:
        queue = self._queues.get(verdict.session)
        if queue is not None:
            queue.put_nowait(verdict)

    def _judge(self, batch: CandidateBatch) -> Verdict:
        about = {"session": batch.session, "round": batch.round, "attempt": batch.attempt}
        if self.refuse:
            return Verdict(**about, status=self.refuse.pop(0), reason="as the test wants it")
        if self.forget_context:
            self.forget_context = False
            self._opened.pop(batch.session, None)
        if batch.session not in self._opened:
            return Verdict(**about, status=Status.CONTEXT_LOST)
        message, base = self._opened[batch.session]
        if codec.base_digest(base) != batch.base_digest:
            return Verdict(**about, status=Status.STALE_BASE)
        try:
            span = batch.tokens()
        except codec.CodecError as error:
            return Verdict(**about, status=Status.INVALID, reason=str(error))
        prefixes = [[*base, *(t.d for t in span[:j])] for j in range(len(span) + batch.want_bonus)]
        self.laws = [self._law(prefix).astype(np.float32) for prefix in prefixes]
        judged = judge(span, self.laws, seed=message.seed, start=len(base), round_=batch.round, want_bonus=batch.want_bonus)
        new = [*base, *(t.d for t in span[: judged.kept]), *([] if judged.token is None else [judged.token])]
        self._opened[batch.session] = (message, new)
        return Verdict(
            **about,
            kept=judged.kept,
            token=judged.token,
            corrected=judged.corrected,
            base_length=len(new),
            base_digest=codec.base_digest(new),
            audits=codec.pack_audits(judged.audits),
        )
