"""Everything a verifier counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class VerifierMetrics:
    """One registry, injected. A *pass* is one session's part of a forward pass; ``phase`` is ``verify`` or ``prefill``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rounds = Counter("sluice_rounds", "Rounds answered", ["status"], registry=registry)
        self.tokens = Counter("sluice_verified_tokens", "Tokens by decision", ["decision"], registry=registry)
        self.passes = Counter("sluice_passes", "Sessions' parts of forward passes", ["phase"], registry=registry)
        self.processed = Counter("sluice_processed_tokens", "Tokens fed to the target", ["phase"], registry=registry)
        self.batch = Histogram(
            "sluice_batch_sessions", "Sessions in one pass over spans", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        self.queue = Histogram(
            "sluice_queue_seconds", "From append by the broker to the forward pass", buckets=_SECONDS, registry=registry
        )
        self.verify = Histogram(
            "sluice_verify_seconds", "One forward pass over spans, with judgement", buckets=_SECONDS, registry=registry
        )
        self.hits = Counter("sluice_cache_hits", "Rounds whose session had a slot", registry=registry)
        self.misses = Counter("sluice_cache_misses", "Rounds whose session had no slot", registry=registry)
        self.rebuilds = Counter("sluice_cache_rebuilds", "Misses of sessions that had been served before", registry=registry)
        self.rebuilt_tokens = Counter(
            "sluice_rebuilt_tokens", "Tokens fed again for sessions that had been served before", registry=registry
        )
        self.expired = Counter("sluice_expired", "Rounds dropped because their time to live was over", registry=registry)
        self.resent = Counter("sluice_verdicts_resent", "Stored verdicts delivered again", registry=registry)
        self.lost_races = Counter(
            "sluice_lost_races", "Rounds judged here for which another verdict stood already", registry=registry
        )
        self.over_budget = Counter(
            "sluice_over_budget", "Messages refused because a budget of tokens was spent", ["scope"], registry=registry
        )
        self.dead_letters_lost = Counter(
            "sluice_dead_letters_lost", "Messages whose dead letter could not be written", registry=registry
        )
        self.dead_letters = Counter("sluice_dead_letters", "Messages set aside with a reason", registry=registry)
        self.engine_failures = Counter("sluice_engine_failures", "Forward passes that raised", registry=registry)
        self.partitions = Gauge("sluice_partitions", "Partitions this verifier owns", registry=registry)
        self.rebalances = Counter("sluice_rebalances", "Assignments received", registry=registry)
        self.rebalance_pause = Histogram(
            "sluice_rebalance_pause_seconds",
            "From giving partitions up to having some again: nothing is read meanwhile",
            buckets=(*_SECONDS, 20.0, 30.0),
            registry=registry,
        )
        self.rebuilt = Counter("sluice_consumers_rebuilt", "Kafka consumers given up and built anew", registry=registry)
        self.queued = Gauge("sluice_queued_messages", "Messages read and not finished", registry=registry)
        self.slots_used = Gauge("sluice_slots_used", "Slots that hold a session", registry=registry)
        self.busy = Counter("sluice_engine_busy_seconds", "Seconds the engine spent in passes", registry=registry)
