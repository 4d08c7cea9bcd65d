"""What the next forward pass is made of: a pure function of the queue, the clock and the slots. No I/O, no torch.

Two kinds of pass alternate when both have work: *rounds* (spans to judge) and *chunks* (pieces of prefixes that are not
in the cache: prompts just opened, and sessions to rebuild). A round is judged once at most ``prefill_chunk`` ids of its
base are missing, so that no round waits longer than one chunk for somebody else's prompt. Earliest deadline first;
a pass costs its padded size, sessions times the longest row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.common.sampling import Sampling
from services.common.speculative import SpanToken

PREFILL_PATIENCE_SECONDS = 2.0  # a prompt just opened competes with rounds to rebuild as if it were due this much later


@dataclass(frozen=True)
class Limits:
    """``max_sessions`` rows and ``token_budget`` padded tokens in one pass; ``prefill_chunk`` ids of a prefix in one pass.

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
    """The next thing to do: at most one of ``rounds`` and ``chunks`` is filled. ``expired`` rounds were dropped."""

    rounds: list[Round] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    expired: list[Round] = field(default_factory=list)


Valid = Callable[[bytes, list[int], str], int]


class Scheduler:
    """The queue of one engine."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._rounds: dict[bytes, Round] = {}
        self._prompts: dict[bytes, _Prompt] = {}
        self._after_rounds = False

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
            del self._rounds[item.session]
        ready, missing = self._sort_out(valid)
        if ready and not (missing and self._after_rounds):
            step.rounds = self._pack(ready)
            for item in step.rounds:
                del self._rounds[item.session]
        elif missing:
            step.chunks = self._pack_chunks(missing)
        self._after_rounds = bool(step.rounds)
        return step

    def _sort_out(self, valid: Valid) -> tuple[list[tuple[float, int, Round]], list[tuple[float, int, Chunk]]]:
        """Rounds that fit into a pass, and prefixes to feed first: (deadline, row length, what)."""
        chunk = self.limits.prefill_chunk
        ready: list[tuple[float, int, Round]] = []
        missing: list[tuple[float, int, Chunk]] = []
        for session, prompt in list(self._prompts.items()):
            have = valid(session, prompt.ids, prompt.tenant)
            if have == len(prompt.ids):
                del self._prompts[session]
            elif session not in self._rounds:
                size = min(chunk, len(prompt.ids) - have)
                missing.append((prompt.due, size, Chunk(session, prompt.ids[: have + size], prompt.tenant)))
        for item in self._rounds.values():
            have = min(valid(item.session, item.base, item.tenant), len(item.base) - 1)
            if len(item.base) - have <= chunk:
                ready.append((item.deadline, len(item.base) - have + len(item.span), item))
            else:
                missing.append((item.deadline, chunk, Chunk(item.session, item.base[: have + chunk], item.tenant)))
        return ready, missing

    def _pack(self, items: list[tuple[float, int, Round]]) -> list[Round]:
        return [items[i][2] for i in self._fit([(due, size) for due, size, _ in items])]

    def _pack_chunks(self, items: list[tuple[float, int, Chunk]]) -> list[Chunk]:
        return [items[i][2] for i in self._fit([(due, size) for due, size, _ in items])]

    def _fit(self, items: list[tuple[float, int]]) -> list[int]:
        """Indices of (due, row length) that make one pass: by due time, skipping what would break the budget."""
        chosen: list[int] = []
        longest = 0
        for index in sorted(range(len(items)), key=lambda i: items[i][0]):
            size = max(longest, items[index][1])
            if chosen and (len(chosen) + 1) * size > self.limits.token_budget:
                continue
            chosen.append(index)
            longest = size
            if len(chosen) == self.limits.max_sessions:
                break
        return chosen
