"""Which token ids have their keys and values in which slot of the cache. Pure bookkeeping, no torch.

The ids decide, not a counter: what two sequences of ids have in common from the beginning is valid, whatever was
rolled back, corrected or re-opened in between.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field


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
    """Row ``row`` of the cache: keys and values of ``ids``, from position 0."""

    row: int
    ids: list[int] = field(default_factory=list)


class SlotTable:
    """The slots of one engine; the least recently used one is given away."""

    def __init__(self, slots: int) -> None:
        self._free = list(range(slots - 1, -1, -1))
        self._held: OrderedDict[bytes, Slot] = OrderedDict()

    def valid(self, session: bytes, ids: list[int]) -> int:
        """How many leading ids of ``ids`` need not be fed again."""
        slot = self._held.get(session)
        return 0 if slot is None else common_prefix(slot.ids, ids)

    def take(self, session: bytes, keep: Collection[bytes]) -> Slot:
        """The slot of ``session``: its own, a free one, or that of the least recently used session outside ``keep``."""
        slot = self._held.get(session)
        if slot is not None:
            self._held.move_to_end(session)
            return slot
        if self._free:
            row = self._free.pop()
        else:
            oldest = next((s for s in self._held if s not in keep), None)
            if oldest is None:
                raise RuntimeError("more sessions in one pass than slots")
            row = self._held.pop(oldest).row
        slot = self._held[session] = Slot(row)
        return slot

    def release(self, session: bytes) -> None:
        """The session has ended: its slot is free."""
        slot = self._held.pop(session, None)
        if slot is not None:
            self._free.append(slot.row)

    def __len__(self) -> int:
        return len(self._held)
