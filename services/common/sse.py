"""Lines of a stream of server-sent events. Pure.

Only line feeds end a line (a carriage return before one goes with it). Text may hold other characters that Unicode calls line
breaks (U+0085, U+2028), at which ``str.splitlines`` and httpx's ``iter_lines`` would cut an event in two.
"""

from __future__ import annotations


class Lines:
    """``feed`` it what comes, in pieces of any size."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that are whole by now, without their ends."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [line.removesuffix(b"\r").decode(errors="replace") for line in whole]
