"""Contexts and verdicts in Redis: the cache by which any verifier can serve any round, and the once-only effect of a round.

Redis is never the truth: a context names its ids by digest, and the device sends its ids again where they are missing.
Every key has a time to live. Errors are those of redis-py; the caller retries.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from services.common import codec, keys
from services.common.codec import CodecError
from services.common.credentials import Identity
from services.common.messages import SCHEMA, MessageError, Open, Status, Verdict, decode, encode
from services.common.redis_client import Client
from services.verifier import scripts
from services.verifier.context import Context
from services.verifier.origin import Origin


@dataclass(frozen=True)
class Lifetimes:
    """Milliseconds that contexts and verdicts live, and entries that a reply stream keeps."""

    context_ms: int
    verdict_ms: int
    replies: int


@dataclass(frozen=True)
class Stored:
    """A verdict that stands, and the message that it was given for."""

    verdict: Verdict
    origin: Origin


@dataclass(frozen=True)
class Found:
    """What Redis knows of a session and one of its rounds. ``closed``: the message that closed it."""

    context: Context | None
    stored: Stored | None
    closed: Origin | None = None


class Put(enum.StrEnum):
    """What became of an opening or a cancellation."""

    WRITTEN = "written"
    AGAIN = "again"  # delivered again, or older than what is known: nothing to do
    REPLAYED = "replayed"  # the same opening, at a later place of the topic
    CLOSED = "closed"  # the session had ended before
    UNKNOWN = "unknown"  # nothing to cancel


class Unsettled(enum.StrEnum):
    """Why a verdict was not stored, where no other one stands."""

    CLOSED = "closed"  # the session has ended meanwhile
    MOVED = "moved"  # it was opened again on another base


class ContextStore:
    """One Redis, or a Redis Cluster."""

    def __init__(self, client: Client, lifetimes: Lifetimes) -> None:
        self._redis = client
        self._lifetimes = lifetimes

    async def ping(self) -> None:
        await self._redis.ping()

    async def claim(self, identity: Identity, session: bytes) -> bool:
        """Whether the session belongs to ``identity``: it does to the first one that asks."""
        return bool(await scripts.CLAIM(self._redis, [keys.owner(session)], [identity.tag, self._lifetimes.context_ms]))

    async def is_anothers(self, identity: Identity, session: bytes) -> bool:
        """Whether the session is known to belong to somebody else."""
        owner = await self._redis.get(keys.owner(session))
        return owner is not None and owner != identity.tag

    async def put_context(self, worker: str, session: bytes, context: Context, origin: Origin) -> Put:
        """Write the context of a session that is opened, or opened again."""
        generation = "" if context.open.generation is None else context.open.generation
        head: list[scripts.Argument] = [origin.partition, origin.offset, generation, self._lifetimes.context_ms]
        answer = await scripts.PUT_CONTEXT(self._redis, [keys.context(worker, session)], [*head, *_fields(context)])
        return Put(answer.decode())

    async def cancel(self, worker: str, session: bytes, origin: Origin) -> Put:
        """The session has ended: a tombstone stands for it, until no message of it can be on its way any more."""
        arguments: list[scripts.Argument] = [origin.partition, origin.offset, self._lifetimes.verdict_ms]
        return Put((await scripts.CANCEL(self._redis, [keys.context(worker, session)], arguments)).decode())

    async def find(self, worker: str, session: bytes, round_: int) -> Found:
        """The context of the session and the verdict of one of its rounds."""
        names = [keys.context(worker, session), keys.verdict(worker, session, round_)]
        flat, stored = await scripts.FIND(self._redis, names)
        fields = dict(zip(flat[::2], flat[1::2], strict=True)) if isinstance(flat, list) else flat
        return Found(_context(fields), _stored(stored), _closed(fields))

    async def settle(
        self, worker: str, verdict: Verdict, base_digest: bytes, after: Context, origin: Origin, schema: int = SCHEMA
    ) -> Stored | Unsettled | None:
        """Store verdict and context and send the verdict, all at once; or change nothing and return why.

        ``base_digest``: of the base that was judged; it must still be the session's.
        """
        names = [
            keys.verdict(worker, verdict.session, verdict.round),
            keys.context(worker, verdict.session),
            keys.replies(worker),
        ]
        times = self._lifetimes
        head: list[scripts.Argument] = [encode(verdict, schema), origin.text(), times.verdict_ms, times.context_ms]
        head += [times.replies, base_digest, after.open.generation or 0]
        answer = await scripts.SETTLE(self._redis, names, [*head, *_fields(after)])
        if answer[0] == b"stored":
            return None
        # A verdict that cannot be read is no verdict: the round has moved on to where nobody can follow it.
        return (_stored(answer[1]) or Unsettled.MOVED) if answer[0] == b"judged" else Unsettled(answer[0].decode())

    async def send(self, worker: str, verdict: Verdict, schema: int = SCHEMA) -> None:
        """Deliver a verdict without storing it."""
        arguments: list[scripts.Argument] = [encode(verdict, schema), self._lifetimes.replies, self._lifetimes.context_ms]
        await scripts.SEND(self._redis, [keys.replies(worker)], arguments)


def _fields(context: Context) -> list[scripts.Argument]:
    fields: list[scripts.Argument] = ["open", encode(context.open), "ids", context.packed, "length", len(context.ids)]
    fields += ["digest", context.digest, "tenant", context.tenant]
    if context.refusal is not None:
        fields += ["status", context.refusal[0].value, "reason", context.refusal[1]]
    return fields


def _context(fields: Mapping[bytes, bytes]) -> Context | None:
    """None also for what nobody of ours has written: a lost context is always a legal answer."""
    try:
        message = decode(fields[b"open"])
        ids = codec.unpack_ids(fields[b"ids"])
        refused = (Status(fields[b"status"].decode()), fields[b"reason"].decode()) if b"status" in fields else None
        tenant = fields[b"tenant"].decode()
    except (KeyError, MessageError, CodecError, ValueError):
        return None
    if not isinstance(message, Open):
        return None
    context = Context.of(message, ids, tenant, refused)
    return context if context.digest == fields.get(b"digest") else None


def _closed(fields: Mapping[bytes, bytes]) -> Origin | None:
    if fields.get(b"state") != b"closed":
        return None
    return Origin(int(fields[b"partition"]), int(fields[b"offset"]))


def _stored(record: bytes | None) -> Stored | None:
    if record is None:
        return None
    origin, _, data = record.partition(b"\n")
    try:
        message = decode(data)
        return Stored(message, Origin.parse(origin.decode())) if isinstance(message, Verdict) else None
    except (MessageError, ValueError):
        return None
