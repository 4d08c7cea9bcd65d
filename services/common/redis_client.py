"""One way to connect to Redis, for all services."""

from __future__ import annotations

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from services.common.settings import ConfigError


def connect(url: str, *, connections: int, timeout_seconds: float) -> Redis:
    """A client with a bounded pool (``connections``) whose commands give up after ``timeout_seconds``.

    Nothing is retried here: whoever calls decides. A blocking read must block for at most half of the timeout, and wants
    a client of its own. Raises ``ConfigError`` for an address that cannot be read.
    """
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=connections,
            timeout=timeout_seconds,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=min(2.0, timeout_seconds),
            retry=Retry(NoBackoff(), 0),
            health_check_interval=30,
        )
    except ValueError as error:
        raise ConfigError(f"{url!r} is not an address of a Redis server: {error}") from error
    return Redis.from_pool(pool)  # owns the pool: `aclose` closes its connections
