"""Every name that the services share in Kafka and Redis, in one place.

All keys of a worker's sessions carry the hash tag ``{worker}``, so that one Lua script may touch them on Redis Cluster.
"""

from __future__ import annotations

CANDIDATES_TOPIC = "sluice.candidates"
DEAD_LETTER_TOPIC = "sluice.dead-letter"
VERIFIER_GROUP = "sluice.verifiers"
POLICY = "sluice:policy"


def context(worker: str, session: bytes) -> str:
    """Hash: ``open`` (the Open message), ``ids`` (codec.pack_ids), ``length``, ``digest`` of the committed base."""
    return f"sluice:{{{worker}}}:context:{session.hex()}"


def verdict(worker: str, session: bytes, round_: int) -> str:
    """String: the stored ``ok`` verdict of one round, as it went over the wire."""
    return f"sluice:{{{worker}}}:verdict:{session.hex()}:{round_}"


def replies(worker: str) -> str:
    """Stream of one edge worker: entries with one field ``v``, an encoded Verdict."""
    return f"sluice:{{{worker}}}:replies"
