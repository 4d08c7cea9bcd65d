"""Every name that the services share in Kafka and Redis, in one place.

All keys of a worker's sessions carry the hash tag ``{worker}``, so that one Lua script may touch them on Redis Cluster.
"""

from __future__ import annotations

CANDIDATES_TOPIC = "sluice.candidates"
DEAD_LETTER_TOPIC = "sluice.dead-letter"
VERIFIER_GROUP = "sluice.verifiers"
POLICY = "sluice:policy"


def context(worker: str, session: bytes) -> str:
    """Hash: constants and committed base of a session, or its tombstone; ``services.verifier.scripts`` says how."""
    return f"sluice:{{{worker}}}:context:{session.hex()}"


def owner(session: bytes) -> str:
    """String: who opened the session first; in a hash slot of its own, since it is asked for by others too."""
    return f"sluice:owner:{{{session.hex()}}}"


def verdict(worker: str, session: bytes, round_: int) -> str:
    """String: where the round stood in the topic, and its ``ok`` verdict as it went over the wire."""
    return f"sluice:{{{worker}}}:verdict:{session.hex()}:{round_}"


def replies(worker: str) -> str:
    """Stream of one edge worker: entries with one field ``v``, an encoded Verdict."""
    return f"sluice:{{{worker}}}:replies"


# The keys beside ``POLICY`` carry its name as hash tag, so that one Lua script may touch them with it on Redis Cluster.
POLICY_LEASE = "{sluice:policy}:lease"
POLICY_FENCE = "{sluice:policy}:fence"
POLICY_OVERRIDES = "{sluice:policy}:overrides"
POLICY_LOG = "{sluice:policy}:log"
