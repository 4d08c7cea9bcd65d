"""The verifier's engine for several answers at once: a row for each, and what it thought of every token."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from services.common.speculative import Judged, Row
from services.pair.gather import Gather
from services.verifier.engine import TargetEngine
from services.verifier.feed import Pass
from services.verifier.scheduler import Chunk, Round
from services.verifier.slots import Place, Slot, SlotTable, common_prefix

PREFILL, VERIFY = "prefill", "verify"  # kinds of requests


class Places(SlotTable):
    """Slots whose rows are set from outside: answers to one prompt follow each other in one row."""

    def __init__(self) -> None:
        super().__init__(0)
        self._slots: dict[bytes, Slot] = {}
        self.rows: dict[bytes, int] = {}

    def valid(self, session: bytes, ids: list[int], tenant: str = "") -> int:
        slot = self._slots.get(session)
        return 0 if slot is None else common_prefix(slot.ids, ids)

    def place(self, session: bytes, ids: list[int], tenant: str, keep: Collection[bytes]) -> Place:
        return Place(self._slots.setdefault(session, Slot(self.rows[session])), self.valid(session, ids))

    def drop(self, session: bytes) -> None:
        self._slots.pop(session, None)

    def missing(self, session: bytes, base: list[int], total: int) -> int:
        """How many tokens are fed so that ``total`` ids are held: the last of ``base`` in any case."""
        return total - min(self.valid(session, base), len(base) - 1)

    def __len__(self) -> int:
        return len(self._slots)


class TellingEngine(TargetEngine):
    """``laws``: by session, ``y`` at each row of its last round."""

    laws: dict[bytes, list[Row]]

    def law(self, item: Round, logits: torch.Tensor) -> list[Row]:
        rows = self.laws[item.session] = super().law(item, logits)
        return rows


class Requests:
    """What ``Gather`` runs on the engine; costs are those of a verifier that knows nothing of other answers."""

    def __init__(self, engine: TellingEngine, places: Places) -> None:
        self._engine, self._places = engine, places

    def prefill(self, chunks: Sequence[Chunk]) -> list[Pass]:
        costs = [Pass(1, self._places.missing(c.session, c.ids, len(c.ids))) for c in chunks]
        self._engine.prefill(list(chunks))
        return costs

    def verify(self, rounds: Sequence[Round]) -> list[tuple[Judged, Pass, Sequence[Row]]]:
        costs = [Pass(1, self._places.missing(r.session, r.base, len(r.base) + r.rows - 1)) for r in rounds]
        self._engine.laws = {}
        judged, _ = self._engine.verify(list(rounds))
        laws = [self._engine.laws[r.session] for r in rounds]
        return list(zip(judged, costs, laws, strict=True))


class RowPasses:
    """``judge.Passes`` of one row."""

    def __init__(self, gather: Gather, engine: TellingEngine, places: Places, row: int) -> None:
        self._gather, self._engine, self._places, self._row = gather, engine, places, row

    async def prefill(self, chunk: Chunk) -> Pass:
        self._places.rows[chunk.session] = self._row
        cost: Pass = await self._gather.ask(PREFILL, self._row, chunk)
        return cost

    async def verify(self, item: Round) -> tuple[Judged, Pass, Sequence[Row]]:
        self._places.rows[item.session] = self._row
        found: tuple[Judged, Pass, Sequence[Row]] = await self._gather.ask(VERIFY, self._row, item)
        return found

    def forget(self, session: bytes) -> None:
        self._engine.forget([session])
        self._places.rows.pop(session, None)
