"""One drafted token after the other, with the gate's decisions on them, the late ones included.

``received`` importance is known one draft step late. Until then an uncertain token is undecided: nothing at or after it is
shown or sent. A token that the signal calls sure needs no importance and is decided at once; so is the last token of an answer,
which nothing follows: uncertainty alone decides there. If a late decision ends the round before the position just computed, its
draft belongs to the next round and is drawn again from the same logits with that round's noise, which is also the bonus
token's. So round boundaries and draws depend on the tokens alone, as they do without importance, and drafting ahead changes
nothing.

Lossless mode takes signals and importance that are blind to the draft. ``binding`` is: its row was computed before the draft
was drawn. ``received`` is not, since its query is the draft itself, so there uncertainty alone decides when to ask.

Where the gate may keep the whole answer local, its first uncertain tokens are undecided until it has decided that.
"""

from __future__ import annotations

from dataclasses import replace

from services.edge_worker.answer import AnswerRequest
from services.edge_worker.draft import Drafter, Step, StepRequest
from services.edge_worker.gate import AnswerLevel, Gate, Stage
from services.edge_worker.signals import Importance
from services.edge_worker.span import Drafted, Limits, cut, due
from services.edge_worker.transcript import Transcript


def importance_used(gate: Gate, request: AnswerRequest, *, lossless: bool) -> Importance:
    """Which importance the gate looks at in this answer."""
    decided_without = request.slm_only or request.gamma == 0.0 or gate.random_rate is not None
    if decided_without or (lossless and gate.importance is Importance.RECEIVED):
        return Importance.NONE
    return gate.importance


class Drafting:
    """Writes into ``text``; reads nothing but it and the constants of the answer."""

    def __init__(
        self, request: AnswerRequest, text: Transcript, drafter: Drafter, gate: Gate, limits: Limits, *, lossless: bool
    ) -> None:
        self._request, self._text, self._drafter = request, text, drafter
        self._gate, self._limits, self._lossless = gate, limits, lossless
        self._gamma = request.gamma
        self._importance = importance_used(gate, request, lossless=lossless)
        self._level = AnswerLevel(None)
        if not lossless and not request.slm_only:
            self._level = gate.level(request.gamma, prompt_tokens=len(request.prompt_ids))

    @property
    def asks(self) -> bool:
        """Whether the answer asks about its uncertain tokens; for good, once it does."""
        return self._level.stage is Stage.ASKING

    @property
    def local_stretch(self) -> bool:
        """A local answer has as many tokens in a row as one upload may have."""
        return self._level.stage is Stage.LOCAL and len(self._text.pending) >= self._limits.span_tokens

    def use(self, gamma: float, limits: Limits) -> None:
        """From the next token on. Tokens that the gate has decided on stay as they are."""
        self._gamma, self._limits = gamma, limits

    async def step(self, slot: int) -> None:
        """Draft the next position."""
        request, text = self._request, self._text
        start, tokens = text.unfed()
        asked = StepRequest(
            slot,
            start,
            tokens,
            request.sampling,
            request.seed,
            text.round,
            self._lossless,
            request.top_logprobs,
            self._importance,
        )
        step = await self._drafter.step(asked)
        if self._importance is Importance.RECEIVED and text.pending:
            text.revise(self._decided(text.pending[-1], step.importance))
            if uploads := due(text.own_pending(), self._limits):
                asked = replace(asked, start=len(text), tokens=(), round=text.round + uploads)
                step = await self._drafter.step(asked)
        asked_before = self.asks
        text.drafted(self._gated(step, asked.round))
        if not asked_before:
            self._settle()

    def _settle(self) -> None:
        """What the stage of the answer means for tokens that wait for it. An upload that falls due makes it ask."""
        text, level = self._text, self._level
        if level.stage is Stage.UNDECIDED:
            if cut([self._decided(t, None) for t in text.pending], self._limits, ended=text.ended()) is None:
                return
            level.ask()
        for at, token in enumerate(text.pending):
            if not token.decided:
                text.pending[at] = self._decided(replace(token, flagged=self.asks), None)

    def _gated(self, step: Step, round_: int) -> Drafted:
        """The new token, decided as far as can be."""
        request, level = self._request, self._level
        level.see(step.u)
        uncertain = not request.slm_only and level.stage is not Stage.LOCAL
        uncertain = uncertain and self._gate.flag(
            step.u, self._gamma, seed=request.seed, position=len(self._text), round_=round_
        )
        token = Drafted(step.d, step.x, step.x_d, step.u, uncertain, False, step.logprob, step.top, decided=False)
        if uncertain and level.stage is Stage.UNDECIDED:
            return token
        late = self._importance is Importance.RECEIVED
        if late and uncertain and not self._text.would_end(step.d):
            return token
        return self._decided(token, None if late else step.importance)

    def _decided(self, token: Drafted, i: float | None) -> Drafted:
        """``token`` with its importance; before the decision ``flagged`` says whether it is uncertain."""
        flagged = token.flagged
        if not token.decided:
            flagged = flagged and self._gate.important(i, self._gamma, self._text.importance())
        judged = flagged or (self._lossless and not self._request.slm_only)
        return replace(token, flagged=flagged, judged=judged, i=i, decided=True)
