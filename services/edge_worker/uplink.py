"""Bytes that really left for Kafka and Redis: read from the kernel, whatever library wrote them, retransmissions included; and
those of the metrics that were asked for.

Linux keeps for each TCP socket the bytes it sent (``tcpi_bytes_sent`` of ``TCP_INFO``). The meter finds this process's
sockets whose
peer is a broker or Redis and adds up what is new since it last looked. Elsewhere there is no such counter: the meter
then says
``available = False`` and the payload bytes of the answers are the figure to use.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from prometheus_client import CollectorRegistry

from services.common.catalogue import edge
from services.common.meters import Meters

_BYTES_RECEIVED_OFFSET, _BYTES_SENT_OFFSET = 128, 200  # struct tcp_info of Linux 4.19 and later
_TCP_INFO_BYTES = 232


Peers = Callable[[], Mapping[str, Iterable[tuple[str, int]]]]


class UplinkMeter:
    """``peers``: channel name to the host:port addresses it may talk to by now; a port is enough to tell. ``scraped``: bytes of
    pages of metrics up to now."""

    def __init__(self, peers: Peers, registry: CollectorRegistry, scraped: Callable[[], int] = lambda: 0) -> None:
        self.available = sys.platform == "linux"
        self._peers, self._scraped = peers, scraped
        self._scraped_seen = 0
        self._ports: dict[int, str] = {}
        self._seen: dict[tuple[int, int], tuple[int, int]] = {}  # (inode, local port) -> bytes sent, received, counted so far
        self._total = (0, 0)
        self._counter = Meters(registry).counter(edge.UPLINK_BYTES)

    def sample(self) -> None:
        """Add what was sent since the last call; cheap enough for each scrape and each second."""
        scraped = self._scraped()
        self._counter.labels("metrics").inc(scraped - self._scraped_seen)
        self._scraped_seen = scraped
        if not self.available:
            return
        self._ports.update({port: channel for channel, found in self._peers().items() for _, port in found})
        alive: dict[tuple[int, int], tuple[int, int]] = {}
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError, ValueError):
                self._look(int(name), alive)
        self._seen = alive

    def traffic(self) -> tuple[int, int] | None:
        """Bytes sent to and received from Kafka and Redis since the start; ``None`` where the kernel does not count."""
        self.sample()
        return self._total if self.available else None

    def _look(self, fd: int, alive: dict[tuple[int, int], tuple[int, int]]) -> None:
        link = os.readlink(f"/proc/self/fd/{fd}")
        if not link.startswith("socket:["):
            return
        with socket.socket(fileno=os.dup(fd)) as sock:
            if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
                return
            channel = self._ports.get(sock.getpeername()[1])
            if channel is None:
                return
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
            local_port = sock.getsockname()[1]
        if len(info) < _BYTES_SENT_OFFSET + 8:
            self.available = False
            return
        (sent,), (received,) = (struct.unpack_from("<Q", info, at) for at in (_BYTES_SENT_OFFSET, _BYTES_RECEIVED_OFFSET))
        key = (int(link[8:-1]), local_port)
        before = self._seen.get(key, (0, 0))
        new = max(0, sent - before[0]), max(0, received - before[1])
        self._counter.labels(channel).inc(new[0])
        self._total = self._total[0] + new[0], self._total[1] + new[1]
        alive[key] = sent, received
