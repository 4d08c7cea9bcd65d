"""Progress of long steps, on standard error: a spinner on a terminal, a line per change elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.status import Status


def stderr_console() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


class Progress:
    """Call it with a short text; use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._last = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.clear()

    def __call__(self, text: str) -> None:
        if text == self._last:
            return
        self._last = text
        if not self._console.is_terminal:
            self._console.print(f"… {text}", style="dim", markup=False)
        elif self._status is None:
            self._status = self._console.status(text, refresh_per_second=4)
            self._status.start()
        else:
            self._status.update(text)

    def clear(self) -> None:
        """Takes the spinner away, so that other output may follow."""
        if self._status is not None:
            self._status.stop()
            self._status = None
        self._last = ""
