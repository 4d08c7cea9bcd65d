"""Everything a verifier counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from services.common.catalogue import verifier as names
from services.common.meters import Meters


class VerifierMetrics:
    """One registry, injected; what each of them counts is in ``catalogue.verifier``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        meters = Meters(registry)
        self.verdicts = meters.labelled(names.VERDICTS)
        self.resent = meters.counter(names.VERDICTS_RESENT)
        self.tokens = meters.labelled(names.VERIFIED_TOKENS)
        self.expired = meters.counter(names.EXPIRED)
        self.lost_races = meters.counter(names.LOST_RACES)
        self.over_budget = meters.counter(names.OVER_BUDGET)
        self.dead_letters = meters.counter(names.DEAD_LETTERS)
        self.dead_letters_lost = meters.counter(names.DEAD_LETTERS_LOST)

        self.passes = meters.labelled(names.PASSES)
        self.processed = meters.labelled(names.PROCESSED_TOKENS)
        self.batch = meters.histogram(names.BATCH_SESSIONS)
        self.queue = meters.histogram(names.QUEUE)
        self.verify = meters.histogram(names.VERIFY)
        self.busy = meters.counter(names.ENGINE_BUSY)
        self.engine_failures = meters.counter(names.ENGINE_FAILURES)

        self.hits = meters.counter(names.CACHE_HITS)
        self.misses = meters.counter(names.CACHE_MISSES)
        self.rebuilds = meters.counter(names.CACHE_REBUILDS)
        self.rebuilt_tokens = meters.counter(names.REBUILT_TOKENS)
        self.shared = meters.counter(names.SHARED_TOKENS)
        self.slots_used = meters.gauge(names.SLOTS_USED)
        self.slots = meters.gauge(names.SLOTS)
        self.cache_bytes = meters.gauge(names.CACHE_BYTES)

        self.lag = meters.gauge(names.LAG)
        self.queued = meters.gauge(names.QUEUED)
        self.oldest_age = meters.gauge(names.OLDEST_AGE)
        self.partitions = meters.gauge(names.PARTITIONS)
        self.rebalances = meters.counter(names.REBALANCES)
        self.rebalance_pause = meters.histogram(names.REBALANCE_PAUSE)
        self.rebuilt = meters.counter(names.CONSUMERS_REBUILT)
