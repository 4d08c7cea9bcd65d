"""One publisher at a time: lease, record and decision log in Redis. Errors are those of redis-py; the caller tries again.

The lease names its holder and a fencing token that only grows (it starts from the server's clock, so that it also grows where
Redis has lost everything). Publishing checks the lease and writes record and log in one script: two processes never
interleave."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.common import keys
from services.common.policy_record import FENCE_SHIFT, ClassKnobs, OverrideRecord, PolicyRecord, version
from services.common.redis_client import Client
from services.policy.decision import Decision

# KEYS: lease, fence. ARGV: holder, TTL in ms. The token of whoever holds it now, or 0 where it is another one.
ACQUIRE = """
local lease = redis.call('GET', KEYS[1])
if lease then
  local at = string.find(lease, ':', 1, true)
  if string.sub(lease, at + 1) ~= ARGV[1] then return 0 end
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return tonumber(string.sub(lease, 1, at - 1))
end
local fence = math.max(tonumber(redis.call('GET', KEYS[2]) or '0') + 1, tonumber(redis.call('TIME')[1]))
redis.call('SET', KEYS[2], string.format('%d', fence))
redis.call('SET', KEYS[1], string.format('%d', fence) .. ':' .. ARGV[1], 'PX', ARGV[2])
return fence
"""

# KEYS: lease, policy, log. ARGV: lease as held, record, its TTL in ms, length of the log, entries of the log ...
PUBLISH = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
for i = 5, #ARGV do redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[4], '*', 'd', ARGV[i]) end
return 1
"""

# KEYS: lease. ARGV: lease as held
RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

# KEYS: overrides. ARGV: class, JSON, milliseconds it holds (0: remove it). The server's clock alone counts.
OVERRIDE = """
if ARGV[3] == '0' then return redis.call('HDEL', KEYS[1], ARGV[1]) end
local now = redis.call('TIME')
local ends = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000) + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d', ends) .. ':' .. ARGV[2])
return 1
"""

# KEYS: overrides. Class, milliseconds left, JSON, and so on; those whose time is over are removed.
OVERRIDES = """
local now = redis.call('TIME')
local ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
local all, out = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do
  local at = string.find(all[i + 1], ':', 1, true)
  local left = tonumber(string.sub(all[i + 1], 1, at - 1)) - ms
  if left <= 0 then
    redis.call('HDEL', KEYS[1], all[i])
  else
    out[#out + 1] = all[i]
    out[#out + 1] = string.format('%d', left)
    out[#out + 1] = string.sub(all[i + 1], at + 1)
  end
end
return out
"""


@dataclass(frozen=True)
class Times:
    """Milliseconds that a lease and a record live, and entries (about) that the log keeps."""

    lease_ms: int = 15_000
    record_ms: int = 30_000
    log_entries: int = 10_000


class Publisher:
    """``holder``: a name of its own for each process."""

    def __init__(self, client: Client, holder: str, times: Times) -> None:
        self._redis: Any = client
        self._holder, self._times = holder, times
        self._fence = 0
        self._number = 0

    @property
    def version(self) -> int:
        """Of the last publication; 0 before the first one."""
        return version(self._fence, self._number) if self._number else 0

    async def lead(self) -> bool:
        """Take the lease or keep it; whether this process holds it now."""
        names = [keys.POLICY_LEASE, keys.POLICY_FENCE]
        fence = int(await self._redis.eval(ACQUIRE, 2, *names, self._holder, self._times.lease_ms))
        if fence != self._fence:
            self._fence, self._number = fence, 0
        return fence > 0

    async def publish(self, decisions: Mapping[str, Decision], log: Sequence[Mapping[str, Any]] = ()) -> bool:
        """Write the record, and ``log`` to the stream; false, and nothing written, where the lease is another's by now."""
        number = self._number + 1
        if not self._fence or number >= 1 << FENCE_SHIFT:
            return False
        knobs = {
            name: ClassKnobs(k=d.k, gamma=d.gamma, gamma_max=d.gamma_max, source=d.source.value)
            for name, d in decisions.items()
        }
        record = PolicyRecord(version=version(self._fence, number), ttl_ms=self._times.record_ms, classes=knobs)
        lines = [json.dumps({**entry, "version": record.version}) for entry in log]
        arguments = [self._lease, record.encode(), self._times.record_ms, self._times.log_entries, *lines]
        names = [keys.POLICY_LEASE, keys.POLICY, keys.POLICY_LOG]
        written = bool(await self._redis.eval(PUBLISH, 3, *names, *arguments))
        if written:
            self._number = number
        else:
            self._fence = self._number = 0
        return written

    async def release(self) -> None:
        """Give the lease up, so that another one need not wait for its end."""
        if self._fence:
            await self._redis.eval(RELEASE, 1, keys.POLICY_LEASE, self._lease)
            self._fence = self._number = 0

    @property
    def _lease(self) -> str:
        return f"{self._fence}:{self._holder}"


async def current(client: Client) -> PolicyRecord | None:
    """The record in force."""
    redis: Any = client
    return PolicyRecord.decode(await redis.get(keys.POLICY))


async def overrides(client: Client) -> dict[str, OverrideRecord]:
    """Those in force, by class."""
    redis: Any = client
    flat = await redis.eval(OVERRIDES, 1, keys.POLICY_OVERRIDES)
    found = {}
    for name, left, data in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
        record = OverrideRecord.decode(data, int(left) / 1000)
        if record is not None:
            found[name.decode()] = record
    return found


async def override(client: Client, device_class: str, k: int, gamma: float, seconds: float, reason: str = "") -> None:
    """Set one class by hand; ``seconds`` 0 takes an override away."""
    redis: Any = client
    data = json.dumps({"k": k, "gamma": gamma, "reason": reason})
    await redis.eval(OVERRIDE, 1, keys.POLICY_OVERRIDES, device_class, data, max(0, round(seconds * 1000)))


async def history(client: Client, entries: int) -> list[dict[str, Any]]:
    """The last decisions, the newest first."""
    redis: Any = client
    rows = await redis.xrevrange(keys.POLICY_LOG, count=entries)
    found: list[dict[str, Any]] = []
    for _, fields in rows:
        try:
            found.append(json.loads(fields[b"d"]))
        except (KeyError, ValueError):
            continue
    return found
