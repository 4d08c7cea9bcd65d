"""Contexts and verdicts in Redis: the cache by which any verifier can serve any round, and the once-only effect of a round.

Redis is never the truth: a context names its ids by digest, and the device sends its ids again where they are missing.
Every key has a time to live. Errors are those of redis-py; the caller retries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.common import codec, keys
from services.common.codec import CodecError
from services.common.messages import MessageError, Open, Status, Verdict, decode, encode
from services.common.redis_client import Client
from services.verifier.context import Context

Field = bytes | bytearray | memoryview | str | int | float  # what redis-py takes as a name or a value

# KEYS: verdict, context, replies. ARGV: verdict, its TTL in ms, context TTL in ms, stream length, context fields ...
# Returns the verdict stored before, if any; then nothing else has changed.
_SETTLE = """
local before = redis.call('GET', KEYS[1])
if before then return before end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('HSET', KEYS[2], unpack(ARGV, 5))
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[4], '*', 'v', ARGV[1])
redis.call('PEXPIRE', KEYS[3], ARGV[3])
return false
"""


@dataclass(frozen=True)
class Lifetimes:
    """Milliseconds that contexts and verdicts live, and entries that a reply stream keeps."""

    context_ms: int
    verdict_ms: int
    replies: int


@dataclass(frozen=True)
class Found:
    """What Redis knows when a round's base is not the one at hand."""

    context: Context | None
    verdict: Verdict | None


class ContextStore:
    """One Redis (or Redis Cluster: all keys of a call share the worker's hash tag)."""

    def __init__(self, client: Client, lifetimes: Lifetimes) -> None:
        self._redis = client
        self._lifetimes = lifetimes
        self._settle = client.register_script(_SETTLE)

    async def ping(self) -> None:
        await self._redis.ping()

    async def put_context(self, worker: str, session: bytes, context: Context) -> None:
        """Write a context, over an earlier one."""
        key = keys.context(worker, session)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(key)
            pipe.hset(key, mapping=_fields(context))
            pipe.pexpire(key, self._lifetimes.context_ms)
            await pipe.execute()

    async def drop_context(self, worker: str, session: bytes) -> None:
        """The session has ended."""
        await self._redis.delete(keys.context(worker, session))

    async def find(self, worker: str, session: bytes, round_: int) -> Found:
        """The context of the session and the verdict of one of its rounds."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(keys.context(worker, session))
            pipe.get(keys.verdict(worker, session, round_))
            fields, stored = await pipe.execute()
        return Found(_context(fields), _verdict(stored))

    async def settle(self, worker: str, verdict: Verdict, after: Context) -> Verdict | None:
        """Store verdict and context and send the verdict, all at once; or change nothing and return the one stored before."""
        names = [
            keys.verdict(worker, verdict.session, verdict.round),
            keys.context(worker, verdict.session),
            keys.replies(worker),
        ]
        fields = [part for pair in _fields(after).items() for part in pair]
        times = self._lifetimes
        arguments = [encode(verdict), times.verdict_ms, times.context_ms, times.replies, *fields]
        before = await self._settle(keys=names, args=arguments)
        return _verdict(before)

    async def send(self, worker: str, verdict: Verdict) -> None:
        """Deliver a verdict without storing it."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.xadd(keys.replies(worker), {"v": encode(verdict)}, maxlen=self._lifetimes.replies, approximate=True)
            pipe.pexpire(keys.replies(worker), self._lifetimes.context_ms)
            await pipe.execute()


def _fields(context: Context) -> dict[Field, Field]:
    fields: dict[Field, Field] = {
        "open": encode(context.open),
        "ids": codec.pack_ids(context.ids),
        "length": len(context.ids),
        "digest": context.digest,
    }
    if context.refusal is not None:
        fields["status"], fields["reason"] = context.refusal[0].value, context.refusal[1]
    return fields


def _context(fields: Mapping[bytes, bytes]) -> Context | None:
    """None also for what nobody of ours has written: a lost context is always a legal answer."""
    try:
        message = decode(fields[b"open"])
        ids = codec.unpack_ids(fields[b"ids"])
        refused = (Status(fields[b"status"].decode()), fields[b"reason"].decode()) if b"status" in fields else None
    except (KeyError, MessageError, CodecError, ValueError):
        return None
    if not isinstance(message, Open):
        return None
    context = Context.of(message, ids, refused)
    return context if context.digest == fields.get(b"digest") else None


def _verdict(stored: bytes | None) -> Verdict | None:
    if stored is None:
        return None
    try:
        message = decode(stored)
    except MessageError:
        return None
    return message if isinstance(message, Verdict) else None
