"""One way to connect to Redis (or Valkey), for all services: a single server or a Cluster, with TLS and an ACL user."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import Field, SecretStr
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ClusterError,
    ConnectionError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    TimeoutError,
    TryAgainError,
)

from services.common.settings import ConfigError, ServiceSettings

# What passes without a change here, once the server, its successor, the network or the operator is back: worth trying again.
TRANSIENT: tuple[type[Exception], ...] = (
    ConnectionError,
    TimeoutError,
    BusyLoadingError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
    ClusterError,
    RedisClusterException,
    MasterDownError,
    NoPermissionError,  # a right that the operator will mend: no message is given up for it
    OSError,
)
CONNECT_SECONDS = 2.0
HEALTH_CHECK_SECONDS = 30

Client = Redis | RedisCluster


@dataclass(frozen=True)
class RedisLink:
    """Where Redis is and who asks. ``password`` is never shown; ``ca_file``: whom TLS trusts instead of the system's list."""

    url: str
    username: str = ""
    password: SecretStr | None = None
    ca_file: str = ""
    cluster: bool = False

    @property
    def shown(self) -> str:
        """The address without user and password."""
        return re.sub(r"//[^/@]*@", "//", self.url)


class RedisSettings(ServiceSettings):
    """Knobs of the link to Redis."""

    redis_url: str = Field(
        default="redis://127.0.0.1:6379/0",
        min_length=3,
        description="address of Redis or Valkey: redis://, rediss:// (TLS) or unix://",
    )
    redis_username: str = Field(default="", description="ACL user; empty: the default user")
    redis_password: SecretStr | None = Field(default=None, description="password of the ACL user or of the server")
    redis_ca_file: str = Field(
        default="", description="PEM file of the authority that signed the server's certificate; empty: the system's list"
    )
    redis_cluster: bool = Field(
        default=False, description="the address is one node of a Redis Cluster: keys are spread over all of its nodes"
    )

    @property
    def redis_link(self) -> RedisLink:
        return RedisLink(self.redis_url, self.redis_username, self.redis_password, self.redis_ca_file, self.redis_cluster)


def addresses(client: Client) -> list[tuple[str, int]]:
    """Host and port of each server that ``client`` may talk to; of a Cluster, of the nodes that it knows of by now."""
    if isinstance(client, RedisCluster):
        return [(str(node.host), int(node.port)) for node in client.get_nodes()]
    options = client.connection_pool.connection_kwargs
    return [(str(options.get("host", "127.0.0.1")), int(options.get("port", 6379)))] if "path" not in options else []


def connect(link: RedisLink | str, *, connections: int, timeout_seconds: float) -> Client:
    """A client with a bounded pool (``connections``; on a Cluster: for each node) whose commands give up after
    ``timeout_seconds``.

    Nothing is retried here: whoever calls decides. A blocking read must block for at most half of the timeout, and wants
    a client of its own. Raises ``ConfigError`` for an address that cannot be read.
    """
    link = RedisLink(link) if isinstance(link, str) else link
    options: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": min(CONNECT_SECONDS, timeout_seconds),
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": HEALTH_CHECK_SECONDS,
    }
    if link.username:
        options["username"] = link.username
    if link.password is not None:
        options["password"] = link.password.get_secret_value()
    if link.ca_file:
        if not link.url.startswith("rediss://"):
            raise ConfigError(f"a CA file for Redis needs TLS: {link.shown!r} should begin with rediss://")
        options["ssl_ca_certs"] = link.ca_file
    try:
        if link.cluster:
            options["retry"] = Retry(NoBackoff(), 1)  # once: with the new primary that the others then tell of
            return RedisCluster.from_url(link.url, max_connections=connections, **options)
        pool = BlockingConnectionPool.from_url(link.url, max_connections=connections, timeout=timeout_seconds, **options)
    except ValueError as error:
        raise ConfigError(f"{link.shown!r} is not an address of a Redis server: {error}") from error
    return Redis.from_pool(pool)  # owns the pool: `aclose` closes its connections
