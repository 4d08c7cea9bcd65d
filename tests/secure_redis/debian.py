"""A Redis server that speaks TLS: the one on the path, or Debian's, unpacked into the user's cache; nothing is installed."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from services.cli.local.debian import Unavailable as Unavailable
from services.cli.local.debian import unpacked

_PACKAGES = ("redis-tools", "libjemalloc2", "liblzf1", "liblua5.1-0", "lua-bitop", "lua-cjson")


@dataclass(frozen=True)
class Program:
    """The server's file, and the folders of libraries that it needs."""

    path: Path
    libraries: str = ""


def redis_server() -> Program:
    """Raises ``Unavailable`` where there is no server on the path and Debian's cannot be fetched."""
    found = shutil.which("redis-server")
    if found is not None:
        return Program(Path(found))
    folder = unpacked("redis", *_PACKAGES)
    programs = folder / "usr" / "bin"
    server = programs / "redis-server"  # a link to a program of `redis-tools`, which is one file under several names
    with suppress(FileExistsError):
        server.symlink_to("redis-check-rdb")
    libraries = sorted({str(path.parent) for path in (folder / "usr" / "lib").rglob("*.so.*")})
    return Program(server, ":".join(libraries))
