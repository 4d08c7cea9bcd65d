"""What the next forward pass is made of: a pure function of the queue, the clock and the slots. No I/O, no torch.

Two kinds of pass alternate when both have work: *rounds* (spans to judge) and *chunks* (pieces of prefixes that are not
in the cache: prompts just opened, and sessions to rebuild). A round is judged once at most ``prefill_chunk`` ids of its
base are missing, so that no round waits longer than one chunk for somebody else's prompt. A pass costs its tokens; whose they
are is decided by ``fairness``. There is no window to wait for more rounds: what comes during a pass shares the next one, so
batches grow with the load by themselves and an idle verifier begins at once.

A round that cannot be judged in time is dropped before it costs a pass; its prefix goes on being fed, so that the next round of
its session finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.common.sampling import Sampling
from services.common.speculative import SpanToken
from services.verifier.fairness import Fairness, Item, Party, Weights
from services.verifier.slots import SHARED_TOKENS

PASS_WEIGHT = 0.1  # of the last pass in the running mean
PREFILL_PATIENCE_SECONDS = 2.0  # a prompt just opened competes with rounds to rebuild as if it were due this much later


@dataclass(frozen=True)
class Limits:
    """``max_sessions`` rows and ``token_budget`` tokens in one pass of rounds; ``prefill_chunk`` ids in one of prefixes.

    ``prompts``: prefixes fed ahead of their round at most; more than there are slots would only evict each other.
    """

    max_sessions: int
    token_budget: int
    prefill_chunk: int
    prompts: int = 8


@dataclass(eq=False)
class Round:
    """A span to judge on top of ``base``. ``deadline``: seconds since the epoch, as the broker counts them."""

    session: bytes
    base: list[int]
    span: Sequence[SpanToken]
    sampling: Sampling
    seed: int
    number: int
    want_bonus: bool
    deadline: float
    tenant: str = ""  # whose session it is: prefixes are shared inside a tenant only; empty: not at all
    device_class: str = ""
    missing: int = 0  # ids of the base that were not in the cache when the round came

    @property
    def party(self) -> Party:
        return self.tenant, self.device_class

    @property
    def rows(self) -> int:
        """Logit rows that the verdict needs."""
        return len(self.span) + self.want_bonus


@dataclass(frozen=True)
class Chunk:
    """Feed ``ids`` of ``session`` as far as they are not cached; all of them are known to belong to it."""

    session: bytes
    ids: list[int]
    tenant: str = ""


@dataclass
class _Prompt:
    ids: list[int]
    due: float
    tenant: str


@dataclass
class Step:
    """The next thing to do: at most one of ``rounds`` and ``chunks`` is filled. Dropped were ``expired`` rounds, and ``late``
    ones, which would have expired in the pass."""

    rounds: list[Round] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    expired: list[Round] = field(default_factory=list)
    late: list[Round] = field(default_factory=list)


Valid = Callable[[bytes, list[int], str], int]


class Scheduler:
    """The queue of one engine."""

    def __init__(self, limits: Limits, weights: Weights | None = None) -> None:
        self.limits = limits
        self._fair = Fairness(weights)
        self._fair_chunks = Fairness(weights)
        self._rounds: dict[bytes, Round] = {}
        self._prompts: dict[bytes, _Prompt] = {}
        self._after_rounds = False
        self.pass_seconds = 0.0  # of the passes over rounds of late, a running mean

    def took(self, seconds: float) -> None:
        """A pass over rounds has taken ``seconds``."""
        self.pass_seconds += (seconds - self.pass_seconds) * (PASS_WEIGHT if self.pass_seconds else 1.0)

    def refuse(self, item: Round, now: float) -> str:
        """Why a round would not get its turn in time, or nothing. Rounds of the others only count as far as their shares do."""
        ahead = sum(r.rows for r in self._rounds.values() if r.party == item.party and r.deadline <= item.deadline)
        wait = ahead / (self.limits.token_budget * self._fair.share(item.party, now)) * self.pass_seconds
        if not ahead or now + wait + self.pass_seconds <= item.deadline:
            return ""
        return f"overloaded: {ahead} tokens of this tenant are before it, about {wait:.1f} s"

    def add_round(self, item: Round) -> None:
        """Raises ``ValueError`` if the session has a round already: one at a time, in order, is the caller's business."""
        if item.session in self._rounds:
            raise ValueError("two rounds of one session in the queue")
        self._rounds[item.session] = item

    def add_prompt(self, session: bytes, ids: list[int], now: float, tenant: str = "") -> None:
        """Prefill ``ids`` when there is time; replaces an earlier wish of the session. Of too many, the oldest yields."""
        self._prompts.pop(session, None)
        self._prompts[session] = _Prompt(ids, now + PREFILL_PATIENCE_SECONDS, tenant)
        if len(self._prompts) > self.limits.prompts:
            del self._prompts[next(iter(self._prompts))]

    def has_round(self, session: bytes) -> bool:
        return session in self._rounds

    def discard(self, session: bytes) -> Round | None:
        """Forget what the session has queued; returns its round, if it had one."""
        self._prompts.pop(session, None)
        return self._rounds.pop(session, None)

    def withdraw(self, item: Round) -> bool:
        """Take this very round out of the queue; false if it is not there (any more)."""
        if self._rounds.get(item.session) is not item:
            return False
        del self._rounds[item.session]
        return True

    def __len__(self) -> int:
        return len(self._rounds) + len(self._prompts)

    @property
    def rounds_waiting(self) -> int:
        return len(self._rounds)

    def take(self, now: float, valid: Valid) -> Step:
        """Remove and return the next step; ``valid`` says how many leading ids of a session are in the cache."""
        step = Step(expired=[r for r in self._rounds.values() if r.deadline <= now])
        for item in step.expired:
            self._drop(item, now)
        step.late = [r for r in self._rounds.values() if r.deadline < now + self.pass_seconds]
        if step.late and len(step.late) == len(self._rounds):
            step.late.remove(max(step.late, key=lambda r: r.deadline))  # a pass tells whether they still take so long
        for item in step.late:
            self._drop(item, now)
        ready, missing = self._sort_out(valid)
        limits = self.limits
        if ready and not (missing and self._after_rounds):
            step.rounds = [i.what for i in self._fair.pick(ready, limits.token_budget, limits.max_sessions, now)]
            for item in step.rounds:
                del self._rounds[item.session]
        elif missing:
            alone = _first_of_each_text(missing)
            step.chunks = [i.what for i in self._fair_chunks.pick(alone, limits.prefill_chunk, limits.max_sessions, now)]
        self._after_rounds = bool(step.rounds)
        return step

    def _drop(self, item: Round, now: float) -> None:
        del self._rounds[item.session]
        self.add_prompt(item.session, item.base, now, item.tenant)

    def _sort_out(self, valid: Valid) -> tuple[list[Item[Round]], list[Item[Chunk]]]:
        """Rounds that fit into a pass, and prefixes to feed first."""
        most = self.limits.prefill_chunk
        ready: list[Item[Round]] = []
        missing: list[Item[Chunk]] = []
        for session, prompt in list(self._prompts.items()):
            have = valid(session, prompt.ids, prompt.tenant)
            if have == len(prompt.ids):
                del self._prompts[session]
            elif session not in self._rounds:
                size = min(most, len(prompt.ids) - have)
                chunk = Chunk(session, prompt.ids[: have + size], prompt.tenant)
                missing.append(Item(chunk, prompt.due, size, (prompt.tenant, "")))
        for item in self._rounds.values():
            have = min(valid(item.session, item.base, item.tenant), len(item.base) - 1)
            if len(item.base) - have <= most:
                ready.append(Item(item, item.deadline, len(item.base) - have + len(item.span), item.party))
            else:
                chunk = Chunk(item.session, item.base[: have + most], item.tenant)
                missing.append(Item(chunk, item.deadline, most, (item.tenant, "")))
        return ready, missing


def _first_of_each_text(chunks: list[Item[Chunk]]) -> list[Item[Chunk]]:
    """Of prefixes of one tenant that would feed the same ids, the most urgent: the others copy them from its slot later."""
    first: dict[object, Item[Chunk]] = {}
    for item in chunks:
        chunk, have = item.what, len(item.what.ids) - item.size
        text: object = (chunk.tenant, tuple(chunk.ids[: have + SHARED_TOKENS]))
        if not chunk.tenant or len(chunk.ids) < SHARED_TOKENS:
            text = chunk.session  # nothing is shared
        known = first.get(text)
        if known is None or item.due < known.due:
            first[text] = item
    return list(first.values())
