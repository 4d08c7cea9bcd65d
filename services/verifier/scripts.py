"""The Lua scripts by which verifiers write to Redis: each is one step that happens once or not at all.

All keys of a call share the hash tag of the worker (or there is one key), so that they work on Redis Cluster. A context is a
hash: ``open``, ``ids``, ``length``, ``digest``, ``tenant``, and for a session that is refused ``status`` and ``reason``;
``generation``, ``partition`` and ``offset`` of the message that opened it (or closed it: then ``state`` is ``closed`` and the
rest is gone). A stored verdict is ``partition:offset``, a line feed, and the verdict as it was sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from redis.exceptions import NoScriptError

from services.common.redis_client import Client

Argument = bytes | str | int | float


class Script:
    """One script. A server that does not know it (restarted, a new primary) is given it with the call."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()  # as Redis names scripts

    async def __call__(self, client: Client, keys: Sequence[str], arguments: Sequence[Argument] = ()) -> Any:
        redis: Any = client
        try:
            return await redis.evalsha(self._sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return await redis.eval(self._source, len(keys), *keys, *arguments)


# KEYS: verdict, context, replies. ARGV: verdict, origin, verdict TTL, context TTL, stream length, digest of the base,
# generation, context fields ... Changes nothing where the round has its verdict, the session is closed or its base is another.
SETTLE = Script("""
local before = redis.call('GET', KEYS[1])
if before then return {'judged', before} end
local known = redis.call('HMGET', KEYS[2], 'state', 'digest')
if known[1] == 'closed' then return {'closed'} end
if known[2] and known[2] ~= ARGV[6] then return {'moved'} end
redis.call('SET', KEYS[1], ARGV[2] .. '\\n' .. ARGV[1], 'PX', ARGV[3])
redis.call('HSET', KEYS[2], unpack(ARGV, 8))
redis.call('HSETNX', KEYS[2], 'generation', ARGV[7])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[5], '*', 'v', ARGV[1])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
return {'stored'}
""")

# KEYS: context. ARGV: partition, offset, generation (empty: not told), TTL, context fields ...
# An older opening never replaces a newer one; whether it comes again or is played back is told by where it stands.
PUT_CONTEXT = Script("""
local old = redis.call('HMGET', KEYS[1], 'state', 'generation', 'partition', 'offset')
local again = not old[3] or (old[3] == ARGV[1] and tonumber(ARGV[2]) <= tonumber(old[4]))
if old[1] == 'closed' then return again and 'again' or 'closed' end
if old[2] then
  if ARGV[3] == '' then
    if again and old[3] then return 'again' end
  elseif tonumber(ARGV[3]) <= tonumber(old[2]) then
    return again and 'again' or 'replayed'
  end
end
local generation = ARGV[3] ~= '' and ARGV[3] or old[2] or '0'
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'generation', generation, 'partition', ARGV[1], 'offset', ARGV[2], unpack(ARGV, 5))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 'written'
""")

# KEYS: context. ARGV: partition, offset, TTL. The tombstone keeps no ids, and outlives every message that was on its way.
CANCEL = Script("""
local old = redis.call('HMGET', KEYS[1], 'state', 'generation', 'partition', 'offset')
if old[1] == 'closed' then
  return old[3] == ARGV[1] and tonumber(ARGV[2]) <= tonumber(old[4]) and 'again' or 'closed'
end
if redis.call('EXISTS', KEYS[1]) == 0 then return 'unknown' end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'state', 'closed', 'generation', old[2] or '0', 'partition', ARGV[1], 'offset', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 'written'
""")

# KEYS: replies. ARGV: verdict, stream length, TTL
SEND = Script("""
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'v', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
""")

# KEYS: context, verdict
FIND = Script("""
return {redis.call('HGETALL', KEYS[1]), redis.call('GET', KEYS[2])}
""")

# KEYS: owner. ARGV: who claims it, TTL. The first one stays the owner.
CLAIM = Script("""
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""")
