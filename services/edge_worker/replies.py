"""The downlink from Redis: one task reads this worker's stream of verdicts, and goes on reading whatever happens to Redis.

Entry ids are the server's milliseconds. After a fail-over that lost entries, or a restart without data, the stream is shorter
than what has been read; what is new in it may then carry ids that are lower than the last one seen. So the reader remembers
which entries it has handed over, and after such a loss looks through the whole end of the stream for those that it has not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import structlog
from redis.exceptions import RedisError

from services.common.lifecycle import Backoff
from services.common.redis_client import Client

BLOCK_MS = 1500  # under half of the client's timeout: an idle read must not look like a dead connection
READ_AT_MOST = 256
LOOKED_THROUGH = 1024  # newest entries, after a loss
REMEMBERED = 4 * LOOKED_THROUGH  # entries whose ids are kept: more, since after a loss older ones are among the newest

log = structlog.get_logger()
Entry = tuple[bytes, dict[bytes, bytes]]


class ReplyReader:
    """``hand_over`` gets the value of each entry once, in order. ``waiting`` says whether anybody waits for one."""

    def __init__(self, redis: Client, stream: str, hand_over: Callable[[bytes], None], waiting: Callable[[], bool]) -> None:
        self.up = False  # whether Redis answered when last asked
        self._redis = redis
        self._stream = stream
        self._hand_over = hand_over
        self._waiting = waiting
        self._last: str | None = None
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._closing = False

    def close(self) -> None:
        """A blocking read may swallow the cancellation of ``run``; it then ends by itself within ``BLOCK_MS``."""
        self._closing = True

    async def run(self) -> None:
        """Until cancelled."""
        backoff = Backoff(longest=2.0)
        while not self._closing:
            try:
                await self._find_place()
                if not self.up:
                    self.up = True
                    log.info("redis connected")
                while not self._closing:
                    if not await self._read() and self._waiting():
                        await self._find_place()  # a verdict is overdue: is the stream still the one that was read?
                    backoff.reset()
            except (RedisError, OSError) as error:
                if self.up:
                    log.warning("redis cannot be reached; answers go on locally", error=type(error).__name__)
                self.up = False
                await backoff.sleep()

    async def _find_place(self) -> None:
        """At first: after the newest entry. Later: where reading stopped, unless the stream has lost what was read."""
        newest: Any = await self._redis.xrevrange(self._stream, count=1)
        end = newest[0][0].decode() if newest else "0-0"
        if self._last is None:
            self._last = end
        elif order(end) < order(self._last):
            log.warning("the stream of verdicts has lost entries; reading on at its end")
            found: Any = await self._redis.xrevrange(self._stream, count=LOOKED_THROUGH)
            self._last = end
            self._take([(entry, fields) for entry, fields in reversed(found)])

    async def _read(self) -> bool:
        reply: Any = await self._redis.xread({self._stream: self._last or "0-0"}, count=READ_AT_MOST, block=BLOCK_MS)
        found = entries(reply)
        self._take(found)
        if found:
            self._last = found[-1][0].decode()
        return bool(found)

    def _take(self, found: list[Entry]) -> None:
        for entry_id, fields in found:
            name = entry_id.decode()
            if name in self._seen:
                continue
            self._seen[name] = None
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
            self._hand_over(fields.get(b"v", b""))


def order(entry_id: str) -> tuple[int, int]:
    """Ids as they follow each other."""
    left, _, right = entry_id.partition("-")
    return int(left), int(right or 0)


def entries(reply: Any) -> list[Entry]:
    """The entries of one stream, from the RESP2 form (a list of pairs) or the RESP3 form (a mapping)."""
    if not reply:
        return []
    found: Any = next(iter(reply.values())) if isinstance(reply, dict) else reply[0][1]
    if found and isinstance(found[0], list):  # RESP3 as some clients give it: a list of batches
        found = [entry for batch in found for entry in batch]
    return [(entry_id, fields) for entry_id, fields in found]
