"""What is shown while a run goes on."""

from __future__ import annotations

import io
from collections import deque
from dataclasses import replace

from rich.console import Console

from services.cli.loop.live import COLUMNS, LiveView, Now, spark
from services.cli.loop.plan import FLEETS, Times
from services.cli.loop.verdict import Turn

FLEET, TIMES = FLEETS["synthetic"], Times()
NOW = Now(
    100.0, "load x5", 2.5, values={"utilisation": 0.93, "damage": None}, turn=Turn(99.0, 3, 0.75, "control", "pool budget")
)


def test_a_spark_line_goes_from_nothing_to_full_and_has_gaps() -> None:
    assert spark(deque([0.0, 0.5, 1.0, 9.0, None, -1.0]), 1.0) == "▁▅██ ▁"


def test_without_a_terminal_a_line_tells_each_change() -> None:
    said = io.StringIO()
    with LiveView(Console(file=said, width=300), FLEET, TIMES) as view:
        view.show(NOW)
        view.show(replace(NOW, at=101.0))
        view.show(replace(NOW, at=102.0, turn=Turn(102.0, 4, 0.75, "control", "pool budget")))
        view.show(replace(NOW, at=103.0, prometheus=False, turn=Turn(103.0, 4, 0.75, "hold", "no inputs")))
    lines = said.getvalue().splitlines()
    assert [line.split(" s,")[0] for line in lines] == ["… 100", "… 102", "… 103"]
    assert "utilisation 0.93" in lines[0]
    assert "damage" not in lines[0], "what is not known is not told"
    assert "k 4, gamma 0.75 (hold: no inputs)" in lines[2]


def test_on_a_terminal_the_whole_run_fits_the_table() -> None:
    said, cleared = io.StringIO(), []
    console = Console(file=said, width=120, height=30, force_terminal=True)
    with LiveView(console, FLEET, TIMES, before=lambda: cleared.append(True)) as view:
        for second in range(int(TIMES.end)):
            view.show(replace(NOW, at=float(second), prometheus=second < 500))
    text = said.getvalue()
    assert cleared == [True]
    assert "█" * (COLUMNS - 8) in text, "the utilisation of the whole run"
    assert "Prometheus is away" in text
    assert "control: pool budget" in text
