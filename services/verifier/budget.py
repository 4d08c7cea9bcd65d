"""How many tokens a device and a tenant may have judged: token buckets, so that junk drafts cannot take the pool. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

REMEMBERED = 10_000


@dataclass(frozen=True)
class Rate:
    """``tokens_per_second`` in the long run, ``burst`` tokens at once after a pause. A rate of 0: no limit."""

    tokens_per_second: float
    burst: float


class Buckets:
    """A bucket for each of the ``remembered`` keys seen last; one that is forgotten begins full, as it would be by then."""

    def __init__(self, rate: Rate, remembered: int = REMEMBERED) -> None:
        self._rate = rate
        self._remembered = remembered
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # tokens left, and when

    def __len__(self) -> int:
        return len(self._levels)

    def wait(self, key: Hashable, tokens: int, now: float) -> float:
        """Seconds until ``tokens`` are there; 0: now. A bucket that is asked for more than it holds must be full."""
        if not self._rate.tokens_per_second:
            return 0.0
        missing = min(float(tokens), self._rate.burst) - self._level(key, now)
        return max(0.0, missing / self._rate.tokens_per_second)

    def take(self, key: Hashable, tokens: int, now: float) -> None:
        """Take ``tokens``, also where that leaves a debt."""
        if not self._rate.tokens_per_second:
            return
        self._levels[key] = (self._level(key, now) - tokens, now)
        self._levels.move_to_end(key)
        if len(self._levels) > self._remembered:
            self._levels.popitem(last=False)

    def _level(self, key: Hashable, now: float) -> float:
        level, since = self._levels.get(key, (self._rate.burst, now))
        return min(self._rate.burst, level + max(0.0, now - since) * self._rate.tokens_per_second)


@dataclass(frozen=True)
class Refused:
    """``scope`` is ``worker`` or ``tenant``; ``reason`` is one line."""

    scope: str
    reason: str


class Budgets:
    """The budgets of workers and of tenants, as one verifier sees them."""

    def __init__(self, worker: Rate, tenant: Rate, remembered: int = REMEMBERED) -> None:
        self._scopes = {"worker": (Buckets(worker, remembered), worker), "tenant": (Buckets(tenant, remembered), tenant)}

    def spend(self, worker: str, tenant: str, tokens: int, now: float) -> Refused | None:
        """Take ``tokens`` from both budgets at ``now`` (seconds that only go forward); or take nothing and say why."""
        for scope, (buckets, rate) in self._scopes.items():
            wait = buckets.wait(worker if scope == "worker" else tenant, tokens, now)
            if wait > 0:
                return Refused(
                    scope,
                    f"over the {scope}'s budget of {rate.tokens_per_second:g} tokens per second: again in {wait:.1f} s",
                )
        self.charge(worker, tenant, tokens, now)
        return None

    def charge(self, worker: str, tenant: str, tokens: int, now: float) -> None:
        """Take ``tokens`` that are spent already."""
        for scope, (buckets, _) in self._scopes.items():
            buckets.take(worker if scope == "worker" else tenant, tokens, now)
