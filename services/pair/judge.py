"""The verifier of this process behind the session loop's seam, with a meter: real messages, real sizes, real passes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.common import codec
from services.common.credentials import HEADER, Credential, Signer
from services.common.messages import Cancel, CandidateBatch, Message, Open, Verdict, decode, encode
from services.common.sampling import Sampling
from services.common.speculative import Judged, Row
from services.edge_worker.verifier_client import Lost
from services.verifier.feed import Engine, Pass
from services.verifier.scheduler import Chunk, Round

WORKER = "pair"
SIZES_ONLY = Credential.issue({1: bytes(32)}, 1, WORKER)  # nothing is sent: signatures are made for their size


@dataclass(frozen=True)
class Judgement:
    """What one round cost and found. ``audits``: of the skipped tokens that stay; ``laws``: the large model's law at each token
    of the span and behind it, where the engine tells."""

    up_bytes: int
    down_bytes: int
    fed: int
    audits: tuple[float, ...]
    laws: Sequence[Row] = ()


class Passes(Protocol):
    """The large model for one answer."""

    async def prefill(self, chunk: Chunk) -> Pass: ...

    async def verify(self, item: Round) -> tuple[Judged, Pass, Sequence[Row]]:
        """The judgement, its cost, and the large model's laws."""
        ...

    def forget(self, session: bytes) -> None: ...


class Direct:
    """An engine by itself, on a worker thread; it tells no laws."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def prefill(self, chunk: Chunk) -> Pass:
        return await asyncio.to_thread(self._engine.prefill, [chunk])

    async def verify(self, item: Round) -> tuple[Judged, Pass, Sequence[Row]]:
        (judged,), cost = await asyncio.to_thread(self._engine.verify, [item])
        return judged, cost, ()

    def forget(self, session: bytes) -> None:
        self._engine.forget([session])


class Judge:
    """A ``VerifierClient``. ``last``: the round judged last, for whoever has one session at a time."""

    def __init__(self, passes: Passes) -> None:
        self._passes = passes
        self._signer = Signer(SIZES_ONLY, WORKER)
        self._open: dict[bytes, tuple[Open, list[int]]] = {}
        self._queues: dict[bytes, asyncio.Queue[Verdict | Lost]] = {}
        self.last = Judgement(0, 0, 0, ())
        self.open_bytes = 0
        self.prompt_fed = 0
        self._early = False

    @property
    def laws(self) -> Sequence[Row]:
        return self.last.laws

    def begin(self, *, early: bool) -> None:
        """Before a session. ``early``: its prompt is processed when it opens, not with its first round."""
        self.open_bytes = self.prompt_fed = 0
        self._early = early

    def verdicts(self, session: bytes) -> asyncio.Queue[Verdict | Lost]:
        return self._queues.setdefault(session, asyncio.Queue())

    def release(self, session: bytes) -> None:
        self._queues.pop(session, None)
        self._open.pop(session, None)
        self._passes.forget(session)

    async def open(self, message: Open) -> int:
        received = decode(encode(message))
        if not isinstance(received, Open):
            raise RuntimeError("an opening message changed on the wire")
        base = received.base()
        self._open[message.session] = (received, base)
        if self._early:
            self.prompt_fed += (await self._passes.prefill(Chunk(message.session, base))).tokens
        size = self.size(message)
        self.open_bytes += size
        return size

    async def submit(self, message: CandidateBatch) -> int:
        batch = decode(encode(message))
        if not isinstance(batch, CandidateBatch):
            raise RuntimeError("a round changed on the wire")
        opened, base = self._open[batch.session]
        if codec.base_digest(base) != batch.base_digest:
            raise RuntimeError("edge and verifier disagree on the text so far")
        span = batch.tokens()
        item = Round(batch.session, base, span, opened.sampling, opened.seed, batch.round, batch.want_bonus, 0.0)
        judged, cost, laws = await self._passes.verify(item)
        new = [*base, *(t.d for t in span[: judged.kept]), *([] if judged.token is None else [judged.token])]
        self._open[batch.session] = (opened, new)
        verdict = encode(_verdict(batch, judged, new))
        self.last = Judgement(self.size(message), len(verdict), cost.tokens, tuple(judged.audits), laws)
        received = decode(verdict)
        queue = self._queues.get(batch.session)
        if queue is not None and isinstance(received, Verdict):
            queue.put_nowait(received)
        return self.last.up_bytes

    async def cancel(self, message: Cancel) -> int:
        return 0

    def size(self, message: Message) -> int:
        """Bytes of the record that would carry ``message``: key (the session), value, name and value of the signature."""
        value = encode(message)
        signature = self._signer.header(message.session, value)
        return len(message.session) + len(value) + len(HEADER) + len(signature)

    async def alone(
        self, session: bytes, prompt: Sequence[int], most: int, end: frozenset[int], sampling: Sampling, seed: int
    ) -> list[int]:
        """What the large model writes by itself: a round without a span gives one token of its law."""
        ids = list(prompt)
        try:
            while len(ids) - len(prompt) < most and (len(ids) == len(prompt) or ids[-1] not in end):
                item = Round(session, ids, (), sampling, seed, len(ids) - len(prompt), True, 0.0)
                judged, _, _ = await self._passes.verify(item)
                if judged.token is None:
                    raise RuntimeError("a round without a span always gives a token")
                ids = [*ids, judged.token]
        finally:
            self._passes.forget(session)
        return ids[len(prompt) :]


def _verdict(batch: CandidateBatch, judged: Judged, new: Sequence[int]) -> Verdict:
    return Verdict(
        session=batch.session,
        round=batch.round,
        attempt=batch.attempt,
        kept=judged.kept,
        token=judged.token,
        corrected=judged.corrected,
        base_length=len(new),
        base_digest=codec.base_digest(new),
        audits=codec.pack_audits(judged.audits),
    )
