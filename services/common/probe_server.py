"""A tiny HTTP server on a thread of its own: health can still be told while the service's event loop is stuck."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from http import HTTPStatus

Page = tuple[HTTPStatus, str, bytes]  # status, content type, body
REQUEST_SECONDS = 5.0
JOIN_SECONDS = 5.0


class ProbeServer:
    """Answers GET requests with ``page(path)``, called on the server's thread. ``tick`` is called there once a second."""

    def __init__(self, page: Callable[[str], Page], tick: Callable[[], None] = lambda: None) -> None:
        self._page = page
        self._tick = tick
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="probes", daemon=True)
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._where: tuple[str, int] = ("", 0)
        self._failure: OSError | None = None
        self.port = 0

    def start(self, host: str, port: int) -> int:
        """Listen; returns the port (``port`` 0 picks one). Raises ``OSError`` if it is taken."""
        self._where = (host, port)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self.port

    def close(self) -> None:
        """Answers under way are given up; harmless when it does not listen."""
        with contextlib.suppress(RuntimeError):  # its loop is closed already
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread.is_alive():
            self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        try:
            server = await asyncio.start_server(self._answer, *self._where)
        except OSError as error:
            self._failure = error
            self._started.set()
            return
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        async with server:
            while not self._stop.is_set():
                self._tick()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), 1.0)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                request = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n", 1)[0].split(b" ")
                path = request[1].split(b"?")[0].decode("latin-1") if len(request) > 1 else ""
                status, kind, body = self._page(path)
                head = (
                    f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\n"
                    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                )
                writer.write(head.encode() + body)
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a probe that hung up or sent no request: nothing to answer
        finally:
            writer.close()
