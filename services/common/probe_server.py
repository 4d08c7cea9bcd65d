"""A tiny HTTP server on a thread of its own: health can still be told while the service's event loop is stuck."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from http import HTTPStatus

from services.common.packing import packed

Page = tuple[HTTPStatus, str, bytes]  # status, content type, body
REQUEST_SECONDS = 5.0
JOIN_SECONDS = 5.0


class ProbeServer:
    """Answers GET requests with ``page(path)``, called on the server's thread. ``tick`` is called there once a second, ``sent``
    with path and bytes of each answer."""

    def __init__(
        self,
        page: Callable[[str], Page],
        tick: Callable[[], None] = lambda: None,
        sent: Callable[[str, int], None] = lambda path, size: None,
    ) -> None:
        self._page = page
        self._tick = tick
        self._sent = sent
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
                request, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                words = request.split(" ")
                path = words[1].split("?")[0] if len(words) > 1 else ""
                answer = self._written(path, lines)
                writer.write(answer)
                await writer.drain()
                self._sent(path, len(answer))
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a probe that hung up or sent no request: nothing to answer
        finally:
            writer.close()

    def _written(self, path: str, lines: list[str]) -> bytes:
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status, kind, text = self._page(path)
        body, packing = packed(text, headers.get("accept-encoding", ""))
        told = {"Content-Type": kind, **packing, "Content-Length": str(len(body)), "Connection": "close"}
        head = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in told.items())]
        return "\r\n".join([*head, "", ""]).encode() + body
