"""The session loop: draft, gate, upload, go on drafting, apply the verdict (DESIGN section 2).

Draws at a position are keyed by the round that the draft belongs to, and the bonus token shares the noise of the draft at
its position,
so the outcome depends on the tokens and never on how far drafting ahead had come when a verdict arrived.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace

from services.common.messages import Mode, Status, Verdict
from services.edge_worker.answer import AnswerRequest, AnswerStats, OnOutage, OutageError, TokenOut
from services.edge_worker.auditing import RESEND, Auditing
from services.edge_worker.breaker import Permit
from services.edge_worker.drafting import Drafting
from services.edge_worker.energy import verified
from services.edge_worker.sender import Sender
from services.edge_worker.span import Drafted, Limits, asks, cut
from services.edge_worker.transcript import Flight, Transcript
from services.edge_worker.verifier_client import Lost, without_verdict
from services.edge_worker.worker import Observer, Worker

__all__ = ["Observer", "Session", "Worker"]

MAX_ATTEMPTS = 4
STOP = Lost(-1, -1, "stop")  # wakes a session that waits for a verdict


class Session:
    """One answer; iterate over it to write it. It holds draft slot ``slot`` until it ends (see ``answer.Answer``)."""

    def __init__(self, request: AnswerRequest, worker: Worker, slot: int) -> None:
        self.request, self.worker = request, worker
        self.stats = AnswerStats()
        self.lossless = request.mode is Mode.LOSSLESS
        self.stats.lossless = not request.slm_only and (self.lossless or request.gamma == 0.0)
        self._slot: int | None = slot
        self._text = Transcript(list(request.prompt_ids), request.max_tokens, worker.end_ids)
        self._limits = Limits(max(1, request.k), worker.span_tokens, worker.wait_tokens, worker.risk)
        self._drafting = Drafting(request, self._text, worker.drafter, worker.gate, self._limits, lossless=self.lossless)
        self._sender = Sender(os.urandom(16), request, self.stats, worker)
        self._audits = Auditing(request, worker, self._text, self._sender, self.stats)
        self._permit: Permit | None = None  # of the round in flight
        self._stopping = ""
        self._stream: AsyncGenerator[TokenOut, None] | None = None

    # -- life cycle ---------------------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[TokenOut]:
        if self._stream is not None:
            raise RuntimeError("an answer can be iterated over once")
        self._stream = self._run()
        return self._stream

    async def aclose(self) -> None:
        """Stop the work; harmless when it has ended."""
        if self._stream is not None:
            await self._stream.aclose()
        await self._end()

    def stop(self, reason: str) -> None:
        """End the answer soon, with what is final by then; its account states the ``reason``."""
        self._stopping = reason
        self._sender.events.put_nowait(STOP)

    async def _run(self) -> AsyncGenerator[TokenOut, None]:
        try:
            self.worker.energy.enter(self.stats)
            self._follow()
            self._announce()
            while not self._text.finished and not self._stopping:
                for token in await self._advance():
                    self._count(token)
                    yield token
            self.stats.finish_reason = self._text.finished or "length"
            if not self._text.finished:
                self.stats.degraded_reason = self._stopping
            else:
                await self._audits.settle(lambda flight: self._receive(flight, block=True))
        finally:
            await self._end()

    async def _end(self) -> None:
        if self._slot is None:
            return
        slot, self._slot = self._slot, None
        self.worker.drafter.release(slot)
        self.worker.breaker.abandon(self._permit)
        await self._sender.close(cancel=not self._text.finished)
        await self.worker.energy.leave(self.stats)

    async def _advance(self) -> list[TokenOut]:
        """One step of whatever can be done now; the tokens that became final."""
        text = self._text
        out: list[TokenOut] = []
        if self._may_draft():
            await self._draft()
            self._announce()
            out += text.show_front()
        if text.flight is None:
            out += self._begin_round()
        if (flight := text.in_flight()) is not None:
            event = await self._receive(flight, block=not self._may_draft())
            if isinstance(event, Verdict):
                out += self._apply(flight, event)
            elif event is not None:
                out += await self._lose(flight, event.cause)
            if not text.finished:
                out += text.show_front()
        return out

    def _count(self, token: TokenOut) -> None:
        name = token.decision.value
        setattr(self.stats, name, getattr(self.stats, name) + 1)
        self.worker.observer.token(token)

    # -- drafting -----------------------------------------------------------------------------------------------------

    def _may_draft(self) -> bool:
        """Ahead of a round in flight, drafting stops where the next upload will end: what is beyond belongs to a later
        round."""
        text = self._text
        if text.ended() or (text.flight is not None and not self.worker.ahead):
            return False
        return cut(text.own_pending(), self._limits, ended=False) is None

    async def _draft(self) -> None:
        if self._slot is None:
            raise RuntimeError("the session has ended")
        started = self.worker.clock()
        with self.worker.energy.drafting(self.stats):
            await self._drafting.step(self._slot)
        seconds = self.worker.clock() - started
        self.stats.draft_seconds += seconds
        self._text.timed(started, seconds)
        self.worker.observer.drafted(seconds)
        self.worker.observer.scored(self._text.pending[-1].u)

    # -- uploading ----------------------------------------------------------------------------------------------------

    def _announce(self) -> None:
        """Once the answer asks, let the verifier prefill while the device drafts."""
        if not self.stats.kept_local or self.request.slm_only or not self._drafting.asks:
            return
        self.stats.kept_local = False
        if not self._sender.opened and not self.worker.breaker.blocking(self.worker.clock()):
            self._sender.announce(self._text.base)

    def _begin_round(self) -> list[TokenOut]:
        """Upload what is due; or finish an answer, or a stretch of a local one, without a candidate."""
        text, now = self._text, self.worker.clock()
        ended = text.ended()
        n = cut(text.pending, self._limits, ended=ended)
        if n is None:
            return self._keep_local(len(text.pending)) if ended or self._drafting.local_stretch else []
        self._permit = self.worker.breaker.admit(now)
        if self._permit is None and not self._must_be_verified(text.pending[:n]):
            self._degrade(f"breaker open after {self.worker.breaker.cause}", text.pending[:n])
            self._sender.opened = False  # the verifier's base stays behind: a later round sends all ids
            return self._keep_local(n)
        self._sender.submit(text.send(n, now=now), text.base, self.stats.policy_version)
        self._follow()
        return []

    def _follow(self) -> None:
        """The next round goes by the policy in force, as far as this answer may follow it; by its own knobs where there is
        none."""
        policy, follows = self.worker.policy, self.request.follows
        if policy is None or follows is None:
            return
        found = policy.of(self.worker.device_class)
        k, gamma = self.request.k, self.request.gamma
        if found is not None and follows.k_most is not None:
            k = min(found.k, follows.k_most)
        if found is not None and follows.gamma_most is not None:
            gamma = min(found.gamma, follows.gamma_most)
        self._limits = replace(self._limits, k=max(1, k))
        self._drafting.use(gamma, self._limits)
        self.stats.policy_version = found.version if found is not None else 0
        self.stats.lossless = self.stats.lossless and (self.lossless or gamma == 0.0)

    def _keep_local(self, n: int) -> list[TokenOut]:
        self._audits.left(self._text.pending[:n])
        return self._text.keep_local(n)

    def _must_be_verified(self, span: Sequence[Drafted]) -> bool:
        return self.request.on_outage is not OnOutage.DEGRADE and asks(span)

    # -- verdicts -----------------------------------------------------------------------------------------------------

    async def _receive(self, flight: Flight, *, block: bool) -> Verdict | Lost | None:
        """What became of the round in flight; ``None``: nothing yet, go on drafting."""
        started = self.worker.clock()
        try:
            while True:
                left = flight.sent_at + self.request.deadline_seconds - self.worker.clock()
                if self._sender.events.empty() and not block and left > 0:
                    return None
                if self._sender.events.empty() and left <= 0:
                    return Lost(flight.round, flight.attempt, "deadline")
                try:
                    event = await asyncio.wait_for(self._sender.events.get(), max(left, 0.001))
                except TimeoutError:
                    continue
                if event is STOP:
                    return None
                stored = isinstance(event, Verdict) and event.status is Status.OK
                if event.round == flight.round and (event.attempt == flight.attempt or stored):
                    return without_verdict(event)
                if isinstance(event, Verdict):
                    self.stats.late_verdicts += 1
                    self.worker.observer.late()
        finally:
            self.stats.wait_seconds += self.worker.clock() - started

    def _apply(self, flight: Flight, verdict: Verdict) -> list[TokenOut]:
        if verdict.status is not Status.OK:
            return self._refused(flight, verdict)
        if verdict.kept > len(flight.span) or (verdict.corrected and verdict.kept >= len(flight.span)):
            return self._give_up("invalid verdict")
        self.worker.breaker.success()
        if self.worker.policy is not None and verdict.policy_k is not None and verdict.policy_gamma is not None:
            knobs = (verdict.policy_k, verdict.policy_gamma, verdict.policy_version)
            self.worker.policy.saw(self.worker.device_class, *knobs)
        self.worker.observer.round(flight, verdict, self.worker.clock() - flight.first_sent_at)
        self._sender.trace.round(flight, verdict)
        stats = self.stats
        stats.rounds += 1
        stats.verify_seconds += verdict.verify_seconds
        verified(stats, verdict)
        stats.judged += sum(t.judged for t in flight.span[: verdict.kept]) + verdict.corrected
        stats.uploaded_candidates += sum(t.judged for t in flight.span)
        out = self._text.verdict(verdict.kept, verdict.token, verdict.corrected)
        self._audits.in_round(verdict)
        return out

    def _refused(self, flight: Flight, verdict: Verdict) -> list[TokenOut]:
        """Any status but ``ok``: send all ids again where that helps, else go on without."""
        if verdict.status in RESEND and flight.attempt + 1 < MAX_ATTEMPTS:
            flight.attempt += 1
            self._sender.opened = False
            self._sender.submit(flight, self._text.base)
            return []
        cause = verdict.status.value
        if self._must_be_verified(flight.span):
            raise OutageError(f"the verifier refused a round: {verdict.reason or cause}")
        self._failed(cause)
        return self._give_up(cause)

    async def _lose(self, flight: Flight, cause: str) -> list[TokenOut]:
        """No verdict in time: degrade, or wait for a verifier, or fail, as the answer was asked to."""
        now = self.worker.clock()
        self._failed(cause)
        if not self._must_be_verified(flight.span):
            return self._give_up(cause)
        waited = now - flight.first_sent_at
        if self.request.on_outage is OnOutage.ERROR or waited >= self.worker.wait_seconds or flight.attempt >= 255:
            self.stats.finish_reason = "error"
            raise OutageError(
                f"no verdict within {waited:.1f} s ({cause}); the answer must be verified. Try again later, or ask with "
                'on_outage "degrade"'
            )
        self._missed(cause)
        if cause != "deadline":
            await asyncio.sleep(min(1.0, self.request.deadline_seconds) * random.uniform(0.5, 1.0))
        flight.attempt += 1
        flight.sent_at = self.worker.clock()
        self._sender.opened = False
        self._sender.submit(flight, self._text.base)
        return []

    def _failed(self, cause: str) -> None:
        permit, self._permit = self._permit, None
        self.worker.breaker.failure(self.worker.clock(), cause, permit)

    def _missed(self, cause: str) -> None:
        self.worker.observer.lost(cause)
        if self._text.flight is not None:
            self._sender.trace.lost(self._text.flight, cause)

    def _give_up(self, cause: str) -> list[TokenOut]:
        self._missed(cause)
        self.stats.lost_rounds += 1
        self.stats.causes[cause] = self.stats.causes.get(cause, 0) + 1
        self._sender.opened = False  # the verifier's base may have moved on without us: the next round sends all ids again
        if self._text.flight is not None:
            self._degrade(cause, self._text.flight.span)
            self._audits.left(self._text.flight.span)
        return self._text.give_up()

    def _degrade(self, cause: str, span: Sequence[Drafted]) -> None:
        """``span`` stays without a verdict; of skipped tokens alone none was promised."""
        if asks(span):
            self.stats.lossless = False
            self.stats.degraded_reason = self.stats.degraded_reason or cause
