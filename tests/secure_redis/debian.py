"""A Redis server that speaks TLS: the one on the path, or Debian's, unpacked into the user's cache; nothing is installed."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_PACKAGES = ("redis-tools", "libjemalloc2", "liblzf1", "liblua5.1-0", "lua-bitop", "lua-cjson")
FETCH_SECONDS = 300


class Unavailable(Exception):
    """No such server can be had here; ``str`` is the reason."""


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
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Unavailable("no `redis-server` on the path, and no apt-get to fetch it")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sluice"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / "debian-redis"
    with (cache / "debian-redis.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs fetch once
        if not (folder / ".complete").exists():
            _fetch(folder)
    libraries = sorted({str(path.parent) for path in (folder / "usr" / "lib").rglob("*.so.*")})
    return Program(next((folder / "usr" / "bin").glob("redis-check-rdb")).with_name("redis-server"), ":".join(libraries))


def _fetch(folder: Path) -> None:
    """``redis-server`` is a link to a program of ``redis-tools``, which is one file under several names."""
    shutil.rmtree(folder, ignore_errors=True)
    downloads = folder / "packages"
    downloads.mkdir(parents=True)
    done = _run(["apt-get", "-qq", "download", *_PACKAGES], downloads)
    if done.returncode != 0:  # no lists of packages yet
        _run(["apt-get", "-qq", "update"], downloads)
        done = _run(["apt-get", "-qq", "download", *_PACKAGES], downloads)
    if done.returncode != 0:
        raise Unavailable(f"apt-get could not fetch Redis: {' '.join(done.stderr.split())[:300]}")
    for package in downloads.glob("*.deb"):
        _run(["dpkg-deb", "-x", str(package), str(folder)], downloads)
    server = folder / "usr" / "bin" / "redis-server"
    if not server.exists():
        server.symlink_to("redis-check-rdb")
    (folder / ".complete").touch()


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
