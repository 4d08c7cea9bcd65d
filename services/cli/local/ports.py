"""TCP ports of this machine."""

from __future__ import annotations

import errno
import socket

from services.cli.errors import CommandError


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody uses now. Raises ``CommandError`` where this machine has no address ``host``."""
    return _bound(host, 0)


def require_free(host: str, port: int) -> None:
    """Raises ``CommandError`` where a server could not listen on ``host:port``."""
    _bound(host, port)


def _bound(host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As the HTTP server does it: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise CommandError(f"port {port} on {host} is taken; choose another with --port") from error
            raise CommandError(f"cannot listen on {host}: {error.strerror}; choose another address with --host") from error
        bound: int = probe.getsockname()[1]
        return bound
