"""The ids of one answer and their state: agreed, in flight, pending. Pure: no model, no clock, no network.

The text is ``base`` (agreed with the verifier) + ``flight.span`` (uploaded, undecided) + ``pending`` (drafted since). Only
``pending``
grows; a verdict turns the span in flight into base and keeps, shifts or drops ``pending``. While a round with a bonus is
in flight the first
pending token is a guess at the bonus: it survives only where it equals it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from services.common.messages import Verdict
from services.edge_worker.answer import Decision, TokenOut
from services.edge_worker.span import Drafted, asks


@dataclass
class Flight:
    """The one round in flight."""

    round: int
    span: list[Drafted]
    want_bonus: bool
    audit_only: bool  # the answer has ended: its verdict says how good a span was, and changes nothing
    sent_at: float  # seconds of the session's clock, of this attempt
    first_sent_at: float
    shown: int  # tokens at the front of the span that the client has seen
    attempt: int = 0
    draft_from: float | None = None  # when the drafting began that this upload ends
    draft_seconds: float = 0.0  # of it, tokens thrown away included
    uplink_seconds: float | None = None  # of the last attempt, until the broker acknowledged it; None: it has not (yet)

    def downlink_seconds(self, verdict: Verdict, seconds: float) -> float:
        """What is left of the ``seconds`` since the first attempt after earlier attempts, uplink, queue and verification."""
        before = self.sent_at - self.first_sent_at + (self.uplink_seconds or 0.0)
        return max(0.0, seconds - before - verdict.queue_seconds - verdict.verify_seconds)


@dataclass
class Transcript:
    """``base`` starts as the prompt. ``max_tokens`` bounds the answer; a token of ``end_ids`` ends it."""

    base: list[int]
    max_tokens: int
    end_ids: Collection[int]
    pending: list[Drafted] = field(default_factory=list)
    flight: Flight | None = None
    round: int = 0  # the round that a token drafted now belongs to
    fed: int = 0  # tokens of the text whose states the draft model holds
    finished: str = ""  # "stop" or "length" once the answer is complete
    _importance: list[float] = field(default_factory=list)  # of drafted tokens in base
    _shown: int = 0
    _draft_from: float | None = None
    _draft_seconds: float = 0.0
    _prompt: int = field(init=False)

    def __post_init__(self) -> None:
        self._prompt = len(self.base)

    def __len__(self) -> int:
        return len(self.base) + (len(self.flight.span) if self.flight else 0) + len(self.pending)

    def in_flight(self) -> Flight | None:
        return self.flight

    def unfed(self) -> tuple[int, list[int]]:
        """Where the draft model goes on, and the tokens to feed it (at least the last one)."""
        start = min(self.fed, len(self) - 1)
        tail = [*([t.d for t in self.flight.span] if self.flight else []), *(t.d for t in self.pending)]
        text = self.base[start:] if start < len(self.base) else []
        return start, [*text, *tail[max(0, start - len(self.base)) :]]

    def drafted(self, token: Drafted) -> None:
        self.fed = len(self)
        self.pending.append(token)

    def timed(self, started: float, seconds: float) -> None:
        """A draft step began at ``started`` (of the session's clock) and took ``seconds``."""
        self._draft_from = started if self._draft_from is None else self._draft_from
        self._draft_seconds += seconds

    def _untime(self) -> tuple[float | None, float]:
        found = self._draft_from, self._draft_seconds
        self._draft_from, self._draft_seconds = None, 0.0
        return found

    def revise(self, token: Drafted) -> None:
        """What became known of the last pending token."""
        self.pending[-1] = token

    def importance(self) -> list[float]:
        """Of the tokens before the next draft, oldest first: those in base that were drafted and stayed, in flight, pending.

        The guess at a bonus is no part of it, nor is a bonus: whether it was drafted depends on when the verdict came.
        """
        drafted = [*(self.flight.span if self.flight else ()), *self.own_pending()]
        return [*self._importance, *(t.i for t in drafted if t.i is not None)]

    def ended(self) -> bool:
        """Nothing may be drafted after what is there."""
        tokens = self.pending or (self.flight.span if self.flight else [])
        return bool(tokens) and self._closes(len(self), tokens[-1].d)

    def would_end(self, token: int) -> bool:
        """Whether nothing may be drafted after ``token``, if it comes next."""
        return self._closes(len(self) + 1, token)

    def own_pending(self) -> list[Drafted]:
        """``pending`` without the guess at the bonus."""
        return self.pending[1:] if self.flight is not None and self.flight.want_bonus else self.pending

    def _closes(self, length: int, last: int) -> bool:
        return last in self.end_ids or length - self._prompt >= self.max_tokens

    def show_front(self) -> list[TokenOut]:
        """Skipped tokens before the first candidate (or undecided token) are final at once, unless a round is in flight before
        them."""
        if self.flight is not None:
            return []
        out = []
        for token in self.pending[self._shown :]:
            if token.judged or not token.decided:
                break
            out.append(self._out(token, Decision.SKIPPED, None))
            self._shown += 1
        return out

    def send(self, n: int, *, now: float) -> Flight:
        """The first ``n`` pending tokens become the span in flight. A bonus is wanted wherever the answer can go on behind a
        candidate: what follows a span without one has been drafted, and shown."""
        span, self.pending = self.pending[:n], self.pending[n:]
        want_bonus = asks(span) and not self._closes(len(self.base) + n, span[-1].d)
        shown, self._shown = min(self._shown, n), max(0, self._shown - n)
        began, seconds = self._untime()
        self.flight = Flight(self.round, span, want_bonus, False, now, now, shown, draft_from=began, draft_seconds=seconds)
        self.round += 1
        return self.flight

    def verdict(self, kept: int, token: int | None, corrected: bool) -> list[TokenOut]:
        """Apply an ``ok`` verdict on the span in flight; the tokens that become final."""
        flight = self._land()
        out = [
            self._out(t, Decision.ACCEPTED if t.judged else Decision.SKIPPED, flight.round)
            for t in flight.span[flight.shown : kept]
        ]
        self._extend(flight.span[:kept])
        if corrected and token is not None:
            replaced = flight.span[kept]
            out.append(TokenOut(token, Decision.CORRECTED, replaced.u, flight.round, replaced.d))
            self._follow(token, keep_pending=False)
        elif token is not None:
            guess = self.pending[0] if self.pending else None
            hit = guess is not None and guess.d == token
            logprob, top = (guess.logprob, guess.top) if guess is not None and hit else (None, ())
            out.append(TokenOut(token, Decision.BONUS, guess.u if guess else None, flight.round, None, logprob, top))
            self._follow(token, keep_pending=hit)
        self._check_finished()
        return out

    def _follow(self, token: int, *, keep_pending: bool) -> None:
        self.base.append(token)
        if keep_pending:
            del self.pending[0]
        else:
            self.pending.clear()
            self.fed = min(self.fed, len(self.base) - 1)

    def give_up(self) -> list[TokenOut]:
        """No verdict: the candidates in flight stay, unverified."""
        flight = self._land()
        out = self._keep(flight.span, flight.shown, flight.round)
        self._check_finished()
        return out

    def keep_local(self, n: int) -> list[TokenOut]:
        """The first ``n`` pending tokens stay without being asked about."""
        span, self.pending = self.pending[:n], self.pending[n:]
        shown, self._shown = min(self._shown, n), max(0, self._shown - n)
        out = self._keep(span, shown, None)
        self._untime()
        self.round += 1
        self._check_finished()
        return out

    def _keep(self, span: list[Drafted], shown: int, round_: int | None) -> list[TokenOut]:
        self._extend(span)
        return [self._out(t, Decision.UNVERIFIED if t.judged else Decision.SKIPPED, round_) for t in span[shown:]]

    def _extend(self, kept: list[Drafted]) -> None:
        self.base += [t.d for t in kept]
        self._importance += [t.i for t in kept if t.i is not None]

    def _land(self) -> Flight:
        if self.flight is None:
            raise RuntimeError("no round is in flight")
        flight, self.flight = self.flight, None
        return flight

    def _check_finished(self) -> None:
        if self.base[-1] in self.end_ids and len(self.base) > self._prompt:
            self.finished = "stop"
        elif len(self.base) - self._prompt >= self.max_tokens:
            self.finished = "length"

    @staticmethod
    def _out(token: Drafted, decision: Decision, round_: int | None) -> TokenOut:
        return TokenOut(token.d, decision, token.u, round_, None, token.logprob, token.top)
