"""Metrics of verifiers. A *pass* is one session's part of a forward pass. Pure."""

from __future__ import annotations

from services.common.catalogue.metric import Label, Maker, Service
from services.common.catalogue.shared import REFUSALS

_MAKE = Maker((Service.VERIFIER,))
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0)

STATUS = Label("status", ("ok", *REFUSALS))
DECISION = Label("decision", ("skipped", "accepted", "corrected", "bonus"))
PHASE = Label("phase", ("verify", "prefill"))
SCOPE = Label("scope", ("worker", "tenant"))

VERDICTS = _MAKE.counter("verdicts", "verdicts", "Rounds answered, by the status of their verdict", STATUS)
VERDICTS_RESENT = _MAKE.counter("verdicts_resent", "verdicts", "Stored verdicts delivered again")
VERIFIED_TOKENS = _MAKE.counter("verified_tokens", "tokens", "Tokens of ok verdicts, by decision", DECISION)
EXPIRED = _MAKE.counter("expired", "rounds", "Rounds dropped because their time to live was over")
LOST_RACES = _MAKE.counter("lost_races", "rounds", "Rounds judged here for which another verdict stood already")
OVER_BUDGET = _MAKE.counter("over_budget", "messages", "Messages refused because a budget of tokens was spent", SCOPE)
DEAD_LETTERS = _MAKE.counter("dead_letters", "messages", "Messages set aside with a reason")
DEAD_LETTERS_LOST = _MAKE.counter("dead_letters_lost", "messages", "Messages whose dead letter could not be written")

PASSES = _MAKE.counter("passes", "passes", "Sessions' parts of forward passes", PHASE)
PROCESSED_TOKENS = _MAKE.counter("processed_tokens", "tokens", "Tokens fed to the target", PHASE)
BATCH_SESSIONS = _MAKE.histogram("batch_sessions", "sessions", "Sessions in one pass over spans", (1, 2, 4, 8, 16, 32, 64))
QUEUE = _MAKE.histogram("queue_seconds", "seconds", "From append by the broker to the forward pass", _SECONDS)
VERIFY = _MAKE.histogram("verify_seconds", "seconds", "One forward pass over spans, with judgement", _SECONDS)
ENGINE_BUSY = _MAKE.counter("engine_busy_seconds", "seconds", "Seconds the engine spent in passes")
ENGINE_FAILURES = _MAKE.counter("engine_failures", "passes", "Forward passes that raised")

CACHE_HITS = _MAKE.counter("cache_hits", "rounds", "Rounds of whose text at least the beginning was in the cache")
CACHE_MISSES = _MAKE.counter("cache_misses", "rounds", "Rounds of whose text nothing was in the cache")
CACHE_REBUILDS = _MAKE.counter("cache_rebuilds", "rounds", "Misses of sessions that had been served before")
REBUILT_TOKENS = _MAKE.counter("rebuilt_tokens", "tokens", "Tokens fed again for sessions that had been served before")
SHARED_TOKENS = _MAKE.counter(
    "shared_prefix_tokens", "tokens", "Tokens copied from another session of the tenant instead of being fed to the target"
)
SLOTS_USED = _MAKE.gauge("slots_used", "sessions", "Slots that hold a session")
SLOTS = _MAKE.gauge("slots", "sessions", "Slots that there are")
CACHE_BYTES = _MAKE.gauge("cache_bytes", "bytes", "Memory of the slots' keys and values; all of it is taken at the start")

LAG = _MAKE.gauge("lag_messages", "messages", "Messages in this verifier's partitions that it has not read, as last asked")
QUEUED = _MAKE.gauge("queued_messages", "messages", "Messages read and not finished")
OLDEST_AGE = _MAKE.gauge(
    "oldest_message_age_seconds",
    "seconds",
    "Age of the oldest message read and not finished, since the broker took it; 0: none",
)
PARTITIONS = _MAKE.gauge("partitions", "partitions", "Partitions this verifier owns")
REBALANCES = _MAKE.counter("rebalances", "rebalances", "Assignments received")
REBALANCE_PAUSE = _MAKE.histogram(
    "rebalance_pause_seconds",
    "seconds",
    "From giving partitions up to having some again: nothing is read meanwhile",
    (*_SECONDS, 20.0, 30.0),
)
CONSUMERS_REBUILT = _MAKE.counter("consumers_rebuilt", "consumers", "Kafka consumers given up and built anew")
