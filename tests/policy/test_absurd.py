"""Whatever answers come over HTTP, no knob leaves its bounds: from the bytes of a Prometheus to decisions."""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from typing import Any
from urllib.parse import parse_qs

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.catalogue.edge import SCORE
from services.policy.budgets import Budgets
from services.policy.collector import CollectError, Collector, Prometheus
from services.policy.controller import Bounds, Controller, Plan
from services.policy.decision import Source
from services.policy.inputs import Inputs
from services.policy.queries import Fleet, Windows

BOUNDS = Bounds(k_max=5, gamma_min=0.2, gamma_max=0.9, safe_gamma=0.5)
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(["NaN", "+Inf", "-Inf", "-1", "0", "1e400", "1e300", "1e-300", "", "one", "0.5", "1", "20", "100"]),
    st.floats(0.0, 100.0).map(str),
    st.sampled_from([None, 7, [], {}]),
)
LABELS = st.fixed_dictionaries(
    {},
    optional={
        "device_class": st.sampled_from(["phone", "phone", "board", "", "no class!", "x" * 200]),
        "instance": st.sampled_from(["a:1", 'b"}:1', "c|d", "`"]),
        "le": st.sampled_from([*SCORE.values, "+Inf", "NaN", "-1", "half"]),
        "score": st.sampled_from([*SCORE.values, "none"]),
    },
)
SAMPLE = st.one_of(
    st.builds(lambda m, v: {"metric": m, "value": [0, v]}, LABELS, VALUES),
    st.sampled_from([{}, {"metric": None, "value": [0, "1"]}, {"metric": {}, "value": []}, 3, None]),
)
ANSWERS: st.SearchStrategy[Any] = st.one_of(
    st.lists(SAMPLE, max_size=30).map(lambda r: {"status": "success", "data": {"resultType": "vector", "result": r}}),
    st.lists(SAMPLE, max_size=30).map(lambda r: {"status": "success", "data": {"resultType": "vector", "result": r}}),
    st.sampled_from([{"status": "success", "data": {"resultType": "scalar", "result": [0, "1"]}}, {"status": "success"}]),
)
BROKEN = st.sampled_from([b"", b"<html>", b"[]", b"{", b'{"status":"error","error":"x"}', b'{"status":"success","data":7}'])


def sane(query: str) -> bytes:
    """What makes a decision possible: one class, no edge to leave out."""
    rows: list[tuple[dict[str, str], float]] = [({"device_class": "phone"}, 0.5)]
    if re.search(r"> \d+$", query):
        rows = []
    elif "histogram_quantile" not in query and "device_class, le)" in query:
        rows = [({"device_class": "phone", "le": le}, float(le)) for le in SCORE.values]
    elif "device_class, score)" in query:
        rows = [({"device_class": "phone", "score": score}, 0.01) for score in SCORE.values]
    result = [{"metric": labels, "value": [0, str(value)]} for labels, value in rows]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()


async def collected(answers: list[bytes], now: float, share: int = 4) -> Inputs:
    """One of ``share`` queries gets one of ``answers``, the others get a sane one."""

    def answer(request: httpx.Request) -> httpx.Response:
        query = parse_qs(request.content.decode())["query"][0]
        drawn = zlib.crc32(query.encode() + b"".join(answers))
        odd = answers and drawn % share == 0
        return httpx.Response(200, content=answers[drawn // share % len(answers)] if odd else sane(query))

    source = Prometheus("http://prometheus", 1.0, transport=httpx.MockTransport(answer))
    try:
        return await Collector(source, Windows(), Fleet(), 0.05).collect(now)
    except CollectError:
        return Inputs(now)
    finally:
        await source.close()


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.lists(ANSWERS, min_size=1, max_size=8), st.none() | BROKEN), min_size=2, max_size=4),
    st.sampled_from([1, 4, 16, 64]),
)
def test_no_answer_moves_a_knob_outside_its_bounds(steps: list[tuple[list[Any], bytes | None]], share: int) -> None:
    controller = Controller(Plan(bounds=BOUNDS, budgets=Budgets(damage=0.08), hold_seconds=7.0))
    for number, (bodies, broken) in enumerate(steps):
        now = 5.0 * number
        answers = [json.dumps(body).encode() for body in bodies] + ([broken] if broken is not None else [])
        controller.observe(asyncio.run(collected(answers, now, share)))
        for decision in controller.decide(now).values():
            assert 1 <= decision.k <= BOUNDS.k_max
            assert BOUNDS.gamma_min <= decision.gamma <= BOUNDS.gamma_max


def test_the_sane_answers_among_them_are_decided_on() -> None:
    """Else the property above would hold for a controller that only ever waits."""
    controller = Controller(Plan(bounds=BOUNDS), ())
    controller.observe(asyncio.run(collected([], 0.0)))
    assert {name: d.source for name, d in controller.decide(0.0).items()} == {"phone": Source.CONTROL}
