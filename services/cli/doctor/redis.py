"""Redis, as a service would use it: reach, login, rights, version, and that it evicts nothing."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from redis.exceptions import AuthenticationError, NoPermissionError, OutOfMemoryError, ReadOnlyError, RedisError

from services.cli.doctor.line import Line, State
from services.common import keys
from services.common.credentials import Identity
from services.common.redis_client import Client, RedisLink, connect
from services.common.settings import ConfigError
from services.verifier.store import ContextStore, Lifetimes

TIMEOUT_SECONDS = 5.0
OLDEST = (7, 0)
_TRACE_MS = 1_000
_DOC = "docs/redis.md lists the rights"


async def edge_lines(link: RedisLink, worker: str) -> list[Line]:
    """``worker``: whose reply stream it must be able to read."""

    async def read(client: Client) -> None:
        await client.xrevrange(keys.replies(worker), count=1)

    return await _lines("edge", link, f"read {keys.replies(worker)}", read)


async def verifier_lines(link: RedisLink) -> list[Line]:
    async def write(client: Client) -> None:
        store = ContextStore(client, Lifetimes(_TRACE_MS, _TRACE_MS, 1))  # a claim on a session of nobody, for one second
        await store.claim(Identity("doctor", ""), secrets.token_bytes(16))

    return await _lines("verifier", link, "write contexts by script", write)


async def _lines(service: str, link: RedisLink, right: str, attempt: Callable[[Client], Awaitable[None]]) -> list[Line]:
    reach = f"Redis: reach {link.shown}"
    try:
        client = connect(link, connections=2, timeout_seconds=TIMEOUT_SECONDS)
    except ConfigError as error:
        return [Line.of(service, reach, str(error))]
    try:
        problem = await _problem(service, link, lambda: client.ping())
        if problem:
            return [Line.of(service, reach, problem)]
        result = [Line.of(service, reach, "")]
        result.append(Line.of(service, f"Redis: {right}", await _problem(service, link, lambda: attempt(client))))
        return result + await _server(service, client)
    finally:
        await client.aclose()


async def _problem(service: str, link: RedisLink, attempt: Callable[[], Any]) -> str:
    prefix = f"SLUICE_{service.upper()}_REDIS_"
    try:
        await attempt()
    except AuthenticationError:
        return f"wrong user or password: set {prefix}USERNAME and {prefix}PASSWORD"
    except NoPermissionError as error:
        return f"user {link.username or 'default'!r} lacks a right ({_one_line(error)}): {_DOC}"
    except ReadOnlyError:
        return "it is a replica, which takes no writes: name the primary"
    except OutOfMemoryError:
        return "its memory is full: raise maxmemory, or shorten the lifetimes of contexts"
    except (RedisError, OSError, TimeoutError) as error:
        return f"{_cause(error)}: check {prefix}URL" + (f" and {prefix}CA_FILE" if link.url.startswith("rediss") else "")
    return ""


async def _server(service: str, client: Client) -> list[Line]:
    names = [f"Redis: version {'.'.join(map(str, OLDEST))} or newer", "Redis: evicts nothing"]
    try:
        told: Any = await client.info()
    except NoPermissionError:
        detail = "its user may not ask, and need not: `INFO` tells, as the operator"
        return [Line(service, name, State.UNKNOWN, detail) for name in names]
    except (RedisError, OSError, TimeoutError) as error:
        return [Line.of(service, name, _cause(error)) for name in names]
    nodes = list(told.values()) if told and all(isinstance(v, dict) for v in told.values()) else [told]  # of a Cluster: all
    versions = sorted({str(node.get("valkey_version") or node.get("redis_version", "0")) for node in nodes})
    old = [v for v in versions if tuple(int(part) for part in v.split(".")[:2]) < OLDEST]
    policies = sorted({str(node.get("maxmemory_policy", "?")) for node in nodes})
    evicting = [p for p in policies if p != "noeviction"]
    outdated = f"it is {', '.join(old)}: upgrade it" if old else ""
    evicts = f"maxmemory-policy is {', '.join(evicting)}: with anything but noeviction a verdict may be given twice"
    return [
        Line.of(service, names[0], outdated, ", ".join(versions)),
        Line.of(service, names[1], evicts if evicting else "", ", ".join(policies)),
    ]


def _cause(error: BaseException) -> str:
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    for one in chain:
        if isinstance(one, ConnectionRefusedError):
            return "connection refused, no server listens there"
    return _one_line(error)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
