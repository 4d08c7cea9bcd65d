"""Whose rounds make the next pass where not all of them fit: deficit round robin between tenants and between the device classes
of each, earliest deadline first among those whose turn it is. Pure.

M. Shreedhar and G. Varghese, "Efficient fair queueing using deficit round robin", 1995, with one change, since here a pass
takes longer the more is in it, for everybody: what a party leaves of its share is not lent to the others of this pass. It
saves it up for a burst of its own. What one tenant floods therefore never makes the passes of the others long. Alone, a
party has the whole budget; it counts as there for a while after its last round, since the rounds of an answer come one after
the other.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

ACTIVE_SECONDS = 2.0
BURST_SHARES = 8.0

T = TypeVar("T")
Party = tuple[str, str]  # tenant and device class


@dataclass(frozen=True)
class Item(Generic[T]):
    """Something to feed: ``size`` tokens, wanted by ``due`` (seconds)."""

    what: T
    due: float
    size: int
    party: Party = ("", "")


@dataclass(frozen=True)
class Weights:
    """Shares relative to each other, of tenants and of the classes of a tenant; whoever is not named has 1."""

    tenants: Mapping[str, float] = field(default_factory=dict)
    classes: Mapping[str, float] = field(default_factory=dict)

    def shares(self, parties: Iterable[Party]) -> dict[Party, float]:
        """What part of everything each of ``parties`` is due; together 1."""
        classes: defaultdict[str, float] = defaultdict(float)
        found = list(parties)
        for tenant, name in found:
            classes[tenant] += self.classes.get(name, 1.0)
        whole = sum(self.tenants.get(tenant, 1.0) for tenant in classes)
        return {
            (tenant, name): self.tenants.get(tenant, 1.0) / whole * self.classes.get(name, 1.0) / classes[tenant]
            for tenant, name in found
        }


def parse_weights(text: str) -> dict[str, float]:
    """``NAME=WEIGHT,...``. Raises ``ValueError`` with one line."""
    weights = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = part.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not name or not 0 < weight < math.inf:
            raise ValueError(f"{part!r} is no NAME=WEIGHT with a weight above 0")
        weights[name] = weight
    return weights


class Fairness:
    """Remembers from pass to pass who is there and what each of them has left."""

    def __init__(self, weights: Weights | None = None) -> None:
        self._weights = weights or Weights()
        self._seen: dict[Party, float] = {}
        self._left: dict[Party, float] = {}

    def share(self, party: Party, now: float) -> float:
        """What part of a pass ``party`` would be due now."""
        there = {p for p, at in self._seen.items() if now - at <= ACTIVE_SECONDS} | {party}
        return self._weights.shares(there)[party]

    def pick(self, items: Iterable[Item[T]], budget: int, rows: int, now: float) -> list[Item[T]]:
        """Which of ``items`` make a pass of at most ``budget`` tokens and ``rows`` items; at least one, however large."""
        waiting: dict[Party, list[Item[T]]] = {}
        for item in items:
            waiting.setdefault(item.party, []).append(item)
        for queue in waiting.values():
            queue.sort(key=lambda item: item.due, reverse=True)  # the next one is the last
        self._grant(waiting, budget, now)
        chosen: list[Item[T]] = []
        tokens = 0
        while len(chosen) < rows:
            ready = [p for p, queue in waiting.items() if queue and queue[-1].size <= self._left[p]]
            if not ready:
                break
            party = min(ready, key=lambda p: waiting[p][-1].due)
            item = waiting[party].pop()
            if chosen and tokens + item.size > budget:
                waiting[party].clear()  # its turn is the first of the next pass, unless somebody is in more of a hurry
                continue
            self._left[party] -= item.size
            tokens += item.size
            chosen.append(item)
        return chosen

    def _grant(self, waiting: Mapping[Party, list[Item[T]]], budget: int, now: float) -> None:
        """Give each party that is there its share, as often as it takes for the first of them to have enough."""
        self._seen |= dict.fromkeys(waiting, now)
        self._seen = {party: at for party, at in self._seen.items() if now - at <= ACTIVE_SECONDS}
        shares = {party: budget * share for party, share in self._weights.shares(self._seen).items()}
        left = {}
        for party, share in shares.items():
            head = waiting[party][-1].size if party in waiting else 0
            left[party] = min(self._left.get(party, 0.0) + share, max(BURST_SHARES * share, float(head)))
        missing = min(((waiting[p][-1].size - left[p]) / shares[p] for p in waiting), default=0.0)
        more = max(0.0, missing)
        self._left = {party: left[party] + more * (share if party in waiting else 0.0) for party, share in shares.items()}
        if more:
            first = min(waiting, key=lambda p: (waiting[p][-1].size - left[p]) / shares[p])
            self._left[first] = max(self._left[first], waiting[first][-1].size)  # whatever the rounding
