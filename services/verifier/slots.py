"""Which token ids have their keys and values in which slot of the cache. Pure bookkeeping, no torch.

The ids decide, not a counter: what two sequences of ids have in common from the beginning is valid, whatever was
rolled back, corrected or re-opened in between. That also holds between sessions of one tenant: what a new session shares with
another's slot (a system prompt, several answers to one prompt) is copied instead of computed. The slot of a session that has
ended keeps its ids for that, until it is needed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import chain

SHARED_TOKENS = 16  # a shorter common beginning is fed again: it is not worth a copy


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading ids ``a`` and ``b`` share."""
    shortest = min(len(a), len(b))
    if a[:shortest] == b[:shortest]:
        return shortest
    low, high = 0, shortest  # a[:low] == b[:low], a[:high] != b[:high]
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


@dataclass
class Slot:
    """Row ``row`` of the cache: keys and values of ``ids``, from position 0. ``tenant``: whose; empty: shared with nobody."""

    row: int
    ids: list[int] = field(default_factory=list)
    tenant: str = ""


@dataclass(frozen=True)
class Place:
    """Where a session's ids go: the first ``valid`` of them are there once row ``source``, if any, has been copied so far."""

    slot: Slot
    valid: int
    source: int | None = None


class SlotTable:
    """The slots of one engine; the least recently used one is given away, those of ended sessions first."""

    def __init__(self, slots: int) -> None:
        self._free = list(range(slots - 1, -1, -1))
        self._held: OrderedDict[bytes, Slot] = OrderedDict()
        self._ended: OrderedDict[int, Slot] = OrderedDict()  # by row

    def valid(self, session: bytes, ids: list[int], tenant: str = "") -> int:
        """How many leading ids of ``ids`` need not be fed again; with ``tenant`` also those that another slot of it holds."""
        slot = self._held.get(session)
        own = 0 if slot is None else common_prefix(slot.ids, ids)
        return own or self._shared(ids, tenant)[1]

    def place(self, session: bytes, ids: list[int], tenant: str, keep: Collection[bytes]) -> Place:
        """The slot of ``session``, which may now be written: its own, a free one, one of an ended session, or that of the least
        recently used session outside ``keep``. Raises ``RuntimeError`` where ``keep`` has more sessions than slots."""
        slot = self._held.get(session)
        own = 0 if slot is None else common_prefix(slot.ids, ids)
        donor, shared = (None, 0) if own else self._shared(ids, tenant)
        if slot is None:
            slot = self._held[session] = self._take(donor, keep)
        self._held.move_to_end(session)
        slot.tenant = tenant
        if donor is not None and donor.row in self._ended:
            self._ended.move_to_end(donor.row)
        if donor is None or donor.row == slot.row:
            return Place(slot, own or shared)
        return Place(slot, shared, donor.row)

    def release(self, session: bytes) -> None:
        """The session has ended: its slot may be taken, and others may copy from it until then."""
        slot = self._held.pop(session, None)
        if slot is None:
            return
        if slot.tenant and len(slot.ids) >= SHARED_TOKENS:
            self._ended[slot.row] = slot
        else:
            self._free.append(slot.row)

    def drop(self, session: bytes) -> None:
        """What the session's slot holds is unknown."""
        slot = self._held.pop(session, None)
        if slot is not None:
            self._free.append(slot.row)

    def __len__(self) -> int:
        """Sessions that hold a slot."""
        return len(self._held)

    def _shared(self, ids: list[int], tenant: str) -> tuple[Slot | None, int]:
        """The slot of ``tenant`` that begins like ``ids`` for longest, and how far."""
        best: Slot | None = None
        most = SHARED_TOKENS - 1
        if tenant and len(ids) > most:
            for slot in chain(self._ended.values(), self._held.values()):
                if slot.tenant == tenant and slot.ids[: most + 1] == ids[: most + 1]:
                    best, most = slot, common_prefix(slot.ids, ids)
        return best, most if best is not None else 0

    def _take(self, donor: Slot | None, keep: Collection[bytes]) -> Slot:
        """A slot for a session that has none: empty, or the ended ``donor`` itself where no other is free."""
        if self._free:
            return Slot(self._free.pop())
        if self._ended:
            others = (row for row, slot in self._ended.items() if slot is not donor)
            taken = self._ended.pop(next(others, next(iter(self._ended))))
            return taken if taken is donor else Slot(taken.row)
        oldest = next((s for s in self._held if s not in keep), None)
        if oldest is None:
            raise RuntimeError("more sessions in one pass than slots")
        taken = self._held.pop(oldest)
        return taken if taken is donor else Slot(taken.row)
