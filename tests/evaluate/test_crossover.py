"""The sweeps over links and load, against numbers worked out by hand on a link without chance."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from services.common.energy.profiles import Device, Server
from services.evaluate.crossover import Cell, Crossover, Entry, Sweep, crossings, crossover
from services.evaluate.crossover_report import page
from services.evaluate.link import Link
from services.evaluate.modelled import World
from services.evaluate.trace import Exchange, Record

LINK = Link(name="l", uplink_hz=1e4, downlink_hz=1e6, snr_db=10 * math.log10(3), fading=False, rtt_seconds=0.1)
DEVICE = Device(name="d", step_seconds=0.05, draft_watts=5.0, idle_watts=1.0, transmit_watts=2.0, receive_watts=3.0)
SERVER = Server(name="s", pass_seconds=0.05, token_seconds=0.001, watts=100.0)
WORLD = World(LINK, DEVICE, SERVER)


def answers(label: str, count: int, **changes: object) -> list[Record]:
    one = Record(label, 0, "", 20, 2, 1, 0.5, 20, None, 50, 10)
    return [replace(one, prompt=n, **changes) for n in range(count)]  # type: ignore[arg-type]


REMOTE = Entry("remote-llm", answers("remote-llm", 20, streamed=True, steps=0, down_bytes=800, exchanges=()), True)
ROUNDS = (Exchange(10, 100, 40, 12, 1), Exchange(10, 100, 40, 12, 1))
GATED = Entry("u-hlm@0.5", answers("u-hlm@0.5", 20, exchanges=ROUNDS), False, 0.04)
LOCAL = Entry("answer-level", answers("answer-level", 20, open_bytes=0, prompt_fed=0), False)


def found() -> dict[str, Sweep]:
    told = []
    made = crossover([REMOTE, GATED, LOCAL], WORLD, seed=3, tell=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] == len(told)
    return {sweep.name: sweep for sweep in made.sweeps}


def test_a_server_is_saturated_at_one_over_an_answers_seconds() -> None:
    """Alone: 20 passes and 10 + 19 tokens, 1.029 s; with the gate: 3 passes and 10 + 24 tokens, 0.184 s."""
    made = crossover([REMOTE, GATED, LOCAL], WORLD, seed=3, tell=lambda *_: None)
    assert made.capacity["remote-llm"] == pytest.approx(1 / 1.029)
    assert made.capacity["u-hlm@0.5"] == pytest.approx(1 / 0.184)
    assert made.to_json()["capacity_answers_per_second"]["answer-level"] is None
    load = made.sweeps[3]
    assert load.values[-1] == pytest.approx(1 / 0.184)
    for value, cell in zip(load.values, load.cells["remote-llm"], strict=True):
        assert (cell is None) == (value * 1.029 >= 1.0)


def test_load_stretches_what_the_server_does_and_nothing_else() -> None:
    load = found()["offered load"]
    idle, some = load.cells["remote-llm"][0], load.cells["remote-llm"][2]
    assert idle is not None
    assert some is not None
    server = 0.05 + 0.01 + 19 * 0.051
    longer = server * (1 / (1 - load.values[2] * 1.029) - 1)
    assert some.seconds_per_answer - idle.seconds_per_answer == pytest.approx(longer)
    assert some.joules_per_token - idle.joules_per_token == pytest.approx(DEVICE.idle_watts * longer / 20)
    assert all(cell is not None and cell.tokens_per_second == pytest.approx(20.0) for cell in load.cells["answer-level"])


def test_a_thin_uplink_slows_those_who_ask_by_their_bytes() -> None:
    """From 10^7 to 10^4 bit/s: 8 * 50 bits to open; the rounds 8 * 200 bits more."""
    sweep = found()["uplink rate"]
    assert sweep.here == pytest.approx(2e4)
    at = sweep.values.index(1e4)
    slow, fast = (sweep.cells["remote-llm"][n] for n in (at, -1))
    assert slow is not None
    assert fast is not None
    assert slow.seconds_per_answer - fast.seconds_per_answer == pytest.approx(8 * 50 * (1e-4 - 1e-7))
    slow, fast = (sweep.cells["u-hlm@0.5"][n] for n in (at, -1))
    assert slow is not None
    assert fast is not None
    assert slow.seconds_per_answer - fast.seconds_per_answer == pytest.approx(8 * 200 * (1e-4 - 1e-7))


def test_in_outages_one_stops_and_the_other_goes_on_unverified() -> None:
    sweep = found()["share of time in outage"]
    never, most = sweep.cells["remote-llm"][0], sweep.cells["remote-llm"][-1]
    assert never is not None
    assert most is not None
    assert (never.unverified, most.unverified) == (0.0, 0.0)
    assert most.slow_seconds > 20.0 + never.slow_seconds  # outages of 48 s
    gated = sweep.cells["u-hlm@0.5"][-1]
    assert gated is not None
    assert gated.unverified > 0.05
    assert gated.slow_seconds < most.slow_seconds / 5
    assert gated.tokens_per_second > most.tokens_per_second


def test_where_lines_cross() -> None:
    def cell(speed: float) -> Cell:
        return Cell(speed, 1.0, 1.0, 1.0, 0.0)

    cells = {"remote-llm": (cell(10), cell(10), None), "u-hlm": (cell(8), cell(12), cell(12)), "hlm": (cell(1), None, None)}
    linear = Sweep("x", "s", False, (1.0, 2.0, 3.0), None, cells)
    assert crossings(linear) == {"u-hlm": [{"at": pytest.approx(1.5), "faster_above": "u-hlm"}], "hlm": []}
    logarithmic = replace(linear, logarithmic=True, values=(1.0, 100.0, 1e4))
    assert crossings(logarithmic)["u-hlm"][0]["at"] == pytest.approx(10.0)
    text = page(Crossover((linear,), {"u-hlm": 2.0, "hlm": math.inf}, {"u-hlm": 0.04, "hlm": 0.0}), WORLD, "x.png")
    assert "above 1.5 s `u-hlm` is faster than `remote-llm`" in text
    assert "`remote-llm` is faster than `hlm` throughout" in text
    assert "| `u-hlm` | 2 | 0.04 |" in text
    assert "| `hlm` | never | 0 |" in text
    assert "| 3 | saturated |" in text
