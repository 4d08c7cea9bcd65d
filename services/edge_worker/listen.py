"""The port of the HTTP API, taken before the model is loaded: a port in use is told at once."""

from __future__ import annotations

import socket

from services.common.settings import ConfigError


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; ``port`` 0 picks one. Raises ``ConfigError``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"SLUICE_EDGE_PORT: {host}:{port} cannot be listened on ({error.strerror}); choose another port"
        ) from error
    return listener
