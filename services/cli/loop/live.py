"""What a run shows while it runs: on a terminal a table that moves, elsewhere a line per change of the knobs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from services.cli.loop.plan import Fleet, Times
from services.cli.loop.verdict import Turn

BARS = "▁▂▃▄▅▆▇█"
COLUMNS = 56  # of a spark line, which shows the whole run


@dataclass
class Now:
    """The newest values; ``None``: not known."""

    at: float = 0.0
    part: str = ""
    rate: float = 0.0
    prometheus: bool = True
    values: dict[str, float | None] = field(default_factory=dict)
    turn: Turn | None = None


def spark(values: deque[float | None], top: float) -> str:
    """One character a value, a space where none is known; ``top`` is a full one."""
    out = ""
    for value in values:
        level = 0 if value is None else round(max(0.0, min(1.0, value / max(top, 1e-9))) * (len(BARS) - 1))
        out += " " if value is None else BARS[level]
    return out


class LiveView:
    """Use as a context manager; ``show`` it each state."""

    def __init__(self, console: Console, fleet: Fleet, times: Times, before: Callable[[], None] = lambda: None) -> None:
        """``before``: called once, when there is something to show."""
        self._before = before
        self._console, self._fleet, self._times = console, fleet, times
        names = ("load", "utilisation", "round trip p95", "damage", "upload rate", "k", "gamma")
        self._kept: dict[str, deque[float | None]] = {name: deque(maxlen=COLUMNS) for name in names}
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._begun = False
        self._next_at = 0.0
        self._last: tuple[object, ...] = ()

    def __enter__(self) -> LiveView:
        return self

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._before()
            if self._live is not None:
                self._live.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None and self._begun:
            self._live.stop()

    def show(self, now: Now) -> None:
        self._begin()
        rows = self._rows(now)
        if now.at >= self._next_at:
            self._next_at = now.at + self._times.end / COLUMNS
            for name, value, _, _ in rows:
                self._kept[name].append(value)
        if self._live is not None:
            self._live.update(self._view(now, rows), refresh=True)
            return
        turn = now.turn
        state = (now.part, now.prometheus, turn and (turn.k, turn.gamma, turn.source))
        if state != self._last:
            self._last = state
            self._console.print(self._line(now, rows), style="dim", markup=False)

    def _rows(self, now: Now) -> list[tuple[str, float | None, float, str]]:
        """Name, value, what a full bar is, and what it stands against."""
        fleet, turn, values = self._fleet, now.turn, now.values
        return [
            ("load", now.rate, 5.0 * fleet.rate, "answers/s"),
            ("utilisation", values.get("utilisation"), 1.0, f"budget {fleet.utilisation:g}"),
            ("round trip p95", values.get("round_trip_p95"), 2.0, "s"),
            ("damage", values.get("damage"), 2.0 * fleet.damage, f"limit {fleet.damage:g}"),
            ("upload rate", values.get("upload_rate"), 1.0, "of answered tokens"),
            ("k", None if turn is None else float(turn.k), 8.0, "knob"),
            ("gamma", None if turn is None else turn.gamma, 2.0, "knob"),
        ]

    def _view(self, now: Now, rows: list[tuple[str, float | None, float, str]]) -> RenderableType:
        table = Table(show_header=False, box=None, padding=(0, 1))
        for name, value, top, note in rows:
            over = (name == "utilisation" and (value or 0.0) > self._fleet.utilisation) or (
                name == "damage" and (value or 0.0) > self._fleet.damage
            )
            shown = "-" if value is None else f"{value:.0f}" if name == "k" else f"{value:.3f}"
            table.add_row(name, Text(shown, "bold red" if over else "bold"), spark(self._kept[name], top), Text(note, "dim"))
        head = Text(f"{now.at:.0f} of {self._times.end:.0f} s: {now.part}", "bold")
        if not now.prometheus:
            head.append("  Prometheus is away", "bold red")
        turn = now.turn
        said = "no decision yet" if turn is None else f"{turn.source}: {turn.reason}"
        return Group(head, table, Text(said, "dim", no_wrap=True, overflow="ellipsis"))

    @staticmethod
    def _line(now: Now, rows: list[tuple[str, float | None, float, str]]) -> str:
        shown = ", ".join(f"{name} {value:.3g}" for name, value, _, _ in rows if value is not None)
        turn = now.turn
        said = "" if turn is None else f" ({turn.source}: {turn.reason})"
        return f"… {now.at:.0f} s, {now.part}: {shown}{said}"
