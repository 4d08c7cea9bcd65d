"""What an engine must feed its cache, by the slot table; and the interface of an engine. Pure, no torch.

What a session needs fed is whatever of its base is not in its slot (at least the last id, whose row judges the first span
token), then the span. Roll-back, correction and bonus need no operation of their own: they are ids that the slot does not
hold yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.common.speculative import Judged
from services.verifier.scheduler import Chunk, Round
from services.verifier.slots import Slot, SlotTable


@dataclass(frozen=True)
class Pass:
    """Cost of one forward pass: ``sessions`` rows, ``tokens`` fed without padding; ``fed``: those of each row, in order."""

    sessions: int
    tokens: int
    fed: tuple[int, ...] = ()
    shared: int = 0  # tokens that were copied from another session's slot instead


class Engine(Protocol):
    """Synchronous, for one thread. May raise anything; the pump then calls ``forget``."""

    def prefill(self, chunks: list[Chunk]) -> Pass:
        """Make the ids of each chunk valid in the slot of its session."""
        ...

    def verify(self, rounds: list[Round]) -> tuple[list[Judged], Pass]:
        """Judge the rounds in one pass; the sessions must be distinct. A round's answer does not depend on the others."""
        ...

    def forget(self, sessions: list[bytes]) -> None:
        """After a failed pass: what the slots of these sessions hold is unknown."""
        ...


@dataclass(frozen=True)
class Feed:
    """``tokens`` go into ``slot`` from position ``start``; what is before it is first copied from row ``source``, if any."""

    slot: Slot
    start: int
    tokens: list[int]
    source: int | None = None


def of_chunks(slots: SlotTable, chunks: Sequence[Chunk]) -> list[Feed]:
    """What makes the chunks valid. From here on the slots count as holding only what stands before each feed."""
    return _plan(slots, [(c.session, c.tenant, c.ids, c.ids) for c in chunks])


def of_rounds(slots: SlotTable, rounds: Sequence[Round]) -> list[Feed]:
    """What makes the rows that judge the rounds: the last ``rows`` of each feed."""
    return _plan(
        slots,
        [(r.session, r.tenant, r.base, (r.base + [t.d for t in r.span])[: len(r.base) + r.rows - 1]) for r in rounds],
    )


def done(feeds: Sequence[Feed]) -> Pass:
    """The pass has run: the slots hold what was fed."""
    for feed in feeds:
        feed.slot.ids = feed.slot.ids + feed.tokens
    fed = tuple(len(feed.tokens) for feed in feeds)
    return Pass(len(feeds), sum(fed), fed, sum(feed.start for feed in feeds if feed.source is not None))


def _plan(slots: SlotTable, wanted: list[tuple[bytes, str, list[int], list[int]]]) -> list[Feed]:
    """For each session its tenant, its base and all ids it is to hold (at least one more than is kept). Copies are in order: a
    row that is a source may be written by a later one."""
    keep = {session for session, *_ in wanted}
    feeds = []
    for session, tenant, base, ids in wanted:
        place = slots.place(session, base, tenant, keep)
        start = min(place.valid, len(base) - 1)
        place.slot.ids = base[:start]
        feeds.append(Feed(place.slot, start, ids[start:], place.source))
    return feeds
