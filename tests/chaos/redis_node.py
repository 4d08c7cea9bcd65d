"""Real Valkey servers to stop, freeze, empty and promote, and a TCP switch in front of them."""

from __future__ import annotations

import asyncio
import shutil
import signal
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.cli.local.ports import free_port
from services.cli.local.redis_server import server_binary
from tests.chaos.children import Child, Children

START_SECONDS = 20.0


class RedisNode:
    """One server with an append-only file, always at the same port. ``replica_of``: the port of its primary."""

    def __init__(self, children: Children, name: str = "redis", replica_of: int | None = None) -> None:
        self._children = children
        self._name = name
        self._replica_of = replica_of
        self._data = children.folder / name
        self.port = free_port()
        self._child: Child | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> RedisNode:
        """Returns when it answers (a replica: when it has the primary's data)."""
        self._data.mkdir(exist_ok=True)
        command = [str(server_binary()), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._data)]
        command += ["--save", "", "--appendonly", "yes", "--maxmemory", "256mb", "--maxmemory-policy", "noeviction"]
        command += ["--repl-diskless-sync-delay", "0"]
        if self._replica_of is not None:
            command += ["--replicaof", "127.0.0.1", str(self._replica_of)]
        self._child = self._children.start(command, {}, f"{self._name}.log")
        async with asyncio.timeout(START_SECONDS), self.client() as client:
            while not await self._ready(client):
                assert self._child.code is None, self._child.said()
                await asyncio.sleep(0.02)
        return self

    def client(self) -> Redis:
        """A client of the test's own, straight to this server."""
        return Redis.from_url(self.url, socket_timeout=5)

    async def stop(self, *, keep_data: bool) -> None:
        child = self._running()
        child.signal(signal.SIGTERM)
        await child.ended()
        self._children.forget(child)
        self._child = None
        if not keep_data:
            shutil.rmtree(self._data)

    def kill(self) -> None:
        self._children.forget(self._running())
        self._child = None

    def pause(self) -> None:
        self._running().signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running().signal(signal.SIGCONT)

    async def promote(self) -> None:
        """A replica takes nothing more from its primary, and takes writes."""
        async with self.client() as client:
            await client.replicaof("NO", "ONE")

    def _running(self) -> Child:
        assert self._child is not None, f"{self._name} does not run"
        return self._child

    async def _ready(self, client: Redis) -> bool:
        with suppress(RedisError, OSError):
            if self._replica_of is None:
                return bool(await client.ping())
            about = await client.info("replication")
            return about.get("master_link_status") == "up"
        return False


class Switch:
    """A TCP listener that passes each connection on to ``port``, which may change: then all connections are cut."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server: asyncio.Server | None = None
        self._pairs: set[asyncio.StreamWriter] = set()

    async def start(self) -> Switch:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    def to(self, port: int) -> None:
        self._to = port
        for writer in self._pairs:
            writer.transport.abort()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._pairs):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self._pairs |= {writer, back}
        try:
            await asyncio.gather(self._copy(reader, back), self._copy(there, writer))
        finally:
            self._pairs -= {writer, back}

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # cut: the other direction ends too
        finally:
            writer.close()
