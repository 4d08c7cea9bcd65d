"""TCP ports of this machine."""

from __future__ import annotations

import errno
import socket

from services.cli.errors import CommandError


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def require_free(host: str, port: int) -> None:
    """Raises ``CommandError`` where a server could not listen on ``host:port``."""
    with socket.socket() as probe:
        # As the HTTP server does it: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise CommandError(f"port {port} on {host} is taken; choose another with --port, or leave it out") from error
            raise CommandError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another with --host or --port"
            ) from error
